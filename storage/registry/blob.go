package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// keepPartial is how long an unfinished download waits to be continued.
const keepPartial = 7 * 24 * time.Hour

// blob downloads one blob to a file in dir and returns the file, at its start,
// its digest checked over every byte. A download that was cut, even in another
// process, goes on where it stopped. have is asked after waiting for another
// process that downloads the same blob: when it says true the blob is no longer
// needed, and the file is nil. bar follows the bytes that come.
func (c *client) blob(ctx context.Context, dir string, desc imagespec.Descriptor, have func() bool, bar *Bar) (*os.File, error) {
	f, err := claim(ctx, filepath.Join(dir, strings.Replace(desc.Digest.String(), ":", "-", 1)), have)
	if f == nil || err != nil {
		return nil, err
	}
	d := download{client: c, file: f, desc: desc, bar: bar}
	if err := d.run(ctx); err != nil {
		if d.have == 0 { // there is nothing to go on with
			os.Remove(f.Name())
		}
		f.Close()
		return nil, fmt.Errorf("cannot download blob %q: %w", desc.Digest, err)
	}
	// Others may read the finished file from now on, while we still do.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot unlock %q: %w", f.Name(), err)
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}

// wait takes a lock, for as long as the context lets it wait. When it does not, the file is
// closed, and else on an error.
func wait(ctx context.Context, f *os.File) error {
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return nil
	}
	locked := make(chan error, 1)
	go func() { locked <- syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }() // nothing ends it but the lock
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
			err = fmt.Errorf("cannot lock %q: %w", f.Name(), err)
		}
		return err
	case <-ctx.Done():
		go func() {
			<-locked
			f.Close()
		}()
		return context.Cause(ctx)
	}
}

// claim opens a blob's file under its lock.
func claim(ctx context.Context, path string, have func() bool) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := wait(ctx, f); err != nil {
			return nil, err
		}
		opened, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if now, err := os.Stat(path); err == nil && os.SameFile(opened, now) {
			return f, nil
		}
		// Whoever had the lock has used the blob up.
		f.Close()
		if have() {
			return nil, nil
		}
	}
}

// sweep removes downloads that nobody continued for a week.
func sweep(dir string) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range files {
		fi, err := entry.Info()
		if err != nil || time.Since(fi.ModTime()) < keepPartial {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(path)
		}
		f.Close()
	}
}

// download is one blob on its way to a file.
type download struct {
	client *client
	file   *os.File
	desc   imagespec.Descriptor
	bar    *Bar

	sum  hash.Hash
	have int64
}

func (d *download) run(ctx context.Context) error {
	if err := d.readPartial(); err != nil {
		return err
	}
	resumed := d.have > 0
	for {
		if d.have < d.desc.Size {
			err := d.client.retry(ctx, func() error {
				for {
					got := d.have
					err := d.fetch(ctx)
					// Progress was made: the count of retries starts anew.
					if err == nil || d.have == got || !passing(err) || ctx.Err() != nil {
						return err
					}
				}
			})
			if err != nil {
				return fmt.Errorf("%w (after %d of %d bytes)", err, d.have, d.desc.Size)
			}
		}
		got := "sha256:" + hex.EncodeToString(d.sum.Sum(nil))
		if d.have == d.desc.Size && got == d.desc.Digest.String() {
			return nil
		}
		bad := fmt.Errorf("its content is %s, %d bytes; the manifest says %d bytes", got, d.have, d.desc.Size)
		if err := d.restart(); err != nil {
			return errors.Join(bad, err)
		}
		if !resumed {
			return bad
		}
		resumed = false // what an earlier process left may have been wrong
	}
}

// readPartial sums what an earlier try left in the file.
func (d *download) readPartial() error {
	d.sum = sha256.New()
	n, err := io.Copy(d.sum, d.file)
	if err != nil {
		return err
	}
	d.have = n
	d.bar.Skip(n)
	if n > d.desc.Size {
		return d.restart()
	}
	return nil
}

// restart throws away what there is.
func (d *download) restart() error {
	d.bar.Add(int(-d.have))
	d.sum, d.have = sha256.New(), 0
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	_, err := d.file.Seek(0, io.SeekStart)
	return err
}

// fetch asks for the rest and writes what comes.
func (d *download) fetch(ctx context.Context) error {
	header := map[string]string{}
	if d.have > 0 {
		header["Range"] = fmt.Sprintf("bytes=%d-", d.have)
	}
	resp, err := d.client.get(ctx, d.client.url("blobs/%s", d.desc.Digest), header, http.StatusOK, http.StatusPartialContent)
	var refused *transport.Error
	if errors.As(err, &refused) && refused.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.have > 0 {
		if err := d.restart(); err != nil { // it has no ranges, or not this one
			return err
		}
		return d.fetch(ctx)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if isPage(resp) {
		return errPage
	}
	partial := fmt.Sprintf("bytes %d-", d.have)
	if d.have > 0 && (resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), partial)) {
		if err := d.restart(); err != nil { // the registry sends all of it
			return err
		}
	}
	buf := make([]byte, 256<<10)
	for d.have < d.desc.Size {
		n, err := resp.Body.Read(buf[:min(int64(len(buf)), d.desc.Size-d.have)])
		if n > 0 {
			if _, werr := d.file.Write(buf[:n]); werr != nil {
				return permanent{werr}
			}
			d.sum.Write(buf[:n])
			d.have += int64(n)
			d.bar.Add(n)
		}
		if err == io.EOF && d.have < d.desc.Size {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	// One byte more would make it another blob.
	if n, _ := io.ReadFull(resp.Body, buf[:1]); n > 0 {
		err := fmt.Errorf("the registry sends more than the %d bytes of the manifest", d.desc.Size)
		return permanent{errors.Join(err, d.restart())}
	}
	return nil
}
