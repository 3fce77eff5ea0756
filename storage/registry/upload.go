package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// The requests here are those of the OCI distribution specification, "Push".

// send makes a request whose body may be a stream, and wants one of the codes. The
// caller closes the body of the answer.
func (c *client) send(ctx context.Context, method, url, contentType string, body io.Reader, codes ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, codes...); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// has asks whether the repository holds a blob; in doubt it does not.
func (c *client) has(ctx context.Context, d imagespec.Descriptor) bool {
	resp, err := c.send(ctx, http.MethodHead, c.url("blobs/%s", d.Digest), "", nil, http.StatusOK)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.ContentLength < 0 || resp.ContentLength == d.Size
}

// mount asks the registry to take a blob from another of its repositories. If it
// does not it may have begun an upload in its place, whose address is session.
func (c *client) mount(ctx context.Context, d digest.Digest, from string) (mounted bool, session string) {
	query := url.Values{"mount": {d.String()}, "from": {from}}
	resp, err := c.send(ctx, http.MethodPost, c.url("blobs/uploads/")+"?"+query.Encode(), "", nil, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return false, ""
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, ""
	}
	session, _ = next(resp)
	return false, session
}

// begin begins an upload and returns its address.
func (c *client) begin(ctx context.Context) (string, error) {
	resp, err := c.send(ctx, http.MethodPost, c.url("blobs/uploads/"), "", nil, http.StatusAccepted)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	return next(resp)
}

// next is where an upload goes on.
func next(resp *http.Response) (string, error) {
	location, err := resp.Location()
	if err != nil {
		return "", fmt.Errorf("the registry does not say where an upload goes on: %w", err)
	}
	return location.String(), nil
}

// stream uploads what write writes. Nobody needs to know its digest before. An
// upload that takes nothing any more is given up.
func (c *client) stream(ctx context.Context, session string, write func(io.Writer) error) (d digest.Digest, size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, w := io.Pipe()
	moving := &body{r, c.guard.stall, time.AfterFunc(c.guard.stall, func() { cancel(errStalled) })}
	defer moving.idle.Stop()
	sum, count := sha256.New(), &counter{}
	written := make(chan error, 1)
	go func() { // ends when the request has read, or not, what is written
		err := write(io.MultiWriter(w, sum, count))
		w.CloseWithError(err)
		written <- err
	}()
	resp, err := c.send(ctx, http.MethodPatch, session, "application/octet-stream", moving, http.StatusAccepted, http.StatusNoContent)
	r.CloseWithError(errors.New("the upload has ended"))
	if werr := <-written; werr != nil && (err == nil || errors.Is(err, werr)) {
		err = permanent{werr} // the layer cannot be read
	}
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errStalled) {
		err = cause
	}
	if err != nil {
		return "", 0, err
	}
	resp.Body.Close()
	if session, err = next(resp); err != nil {
		return "", 0, err
	}
	d = digest.NewDigest(digest.SHA256, sum)
	return d, count.n, c.commit(ctx, session, d, nil)
}

// body is what an upload sends: it notes that it moves.
type body struct {
	io.Reader
	stall time.Duration
	idle  *time.Timer
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		b.idle.Stop() // what follows is the registry's work
	} else {
		b.idle.Reset(b.stall)
	}
	return n, err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// commit ends an upload, with the last bytes of it.
func (c *client) commit(ctx context.Context, session string, d digest.Digest, last []byte) error {
	at, err := url.Parse(session)
	if err != nil {
		return err
	}
	query := at.Query()
	query.Set("digest", d.String())
	at.RawQuery = query.Encode()
	resp, err := c.send(ctx, http.MethodPut, at.String(), "application/octet-stream", bytes.NewReader(last), http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// putBlob uploads something small, unless it is there.
func (c *client) putBlob(ctx context.Context, data []byte) (imagespec.Descriptor, error) {
	d := imagespec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if c.has(ctx, d) {
		return d, nil
	}
	return d, c.retry(ctx, func() error {
		session, err := c.begin(ctx)
		if err != nil {
			return err
		}
		return c.commit(ctx, session, d.Digest, data)
	})
}

// putManifest uploads a manifest under a tag, or under its digest.
func (c *client) putManifest(ctx context.Context, tagOrDigest string, data []byte, mediaType string) error {
	return c.retry(ctx, func() error {
		resp, err := c.send(ctx, http.MethodPut, c.url("manifests/%s", tagOrDigest), mediaType, bytes.NewReader(data), http.StatusCreated, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return fmt.Errorf("cannot write manifest %s: %w", strconv.Quote(tagOrDigest), err)
		}
		return resp.Body.Close()
	})
}
