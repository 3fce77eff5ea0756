package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/storage/volume"
	"moss/userns"
)

// Reset removes all that moss has of this user: containers, images, volumes, secrets,
// networks, and what it knows. It looks into no store and no record that could be
// damaged, but to end what runs. The directories themselves stay.
func (e *Engine) Reset(ctx context.Context) error {
	unlock, err := e.lockStore(ctx, storePatience)
	if err != nil {
		return fmt.Errorf("cannot reset: %w", err)
	}
	defer unlock()
	if err := e.endAll(ctx); err != nil {
		return fmt.Errorf("cannot reset: %w", err)
	}
	for _, dir := range []string{e.Paths.Root, e.Volumes.All(), e.Paths.Run} {
		unmountBelow(dir)
	}
	var all error
	for _, dir := range []string{e.Volumes.All(), e.Paths.Root, e.Paths.Run} {
		for _, path := range entriesOf(dir) {
			if dir == e.Paths.Run && keptByReset[filepath.Base(path)] {
				continue
			}
			if dir == e.Volumes.All() && filepath.Dir(dir) != e.Paths.Root && volume.CheckName(filepath.Base(path)) != nil {
				continue // of --volumepath; who knows what else is there
			}
			all = errors.Join(all, record.RemoveTree(path))
		}
	}
	if all != nil {
		return fmt.Errorf("cannot reset: %w", all)
	}
	return userns.Release(e.Paths.Dirs)
}

// keptByReset are files of the run directory that Release needs, and removes.
var keptByReset = map[string]bool{"pause": true, "pause.lock": true}

// endAll removes every container, damaged ones too.
func (e *Engine) endAll(ctx context.Context) error {
	ids, err := e.ids()
	if err != nil {
		return err
	}
	var all error
	var atOnce time.Duration
	for _, id := range ids {
		c, err := e.load(id)
		if err == nil {
			err = e.Remove(ctx, c, RemoveOptions{Force: true, Timeout: &atOnce})
		}
		if err != nil {
			err = e.RemoveBroken(id)
		}
		all = errors.Join(all, err)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return all
}

// errBusy says who is in the way of what needs the store for itself.
var errBusy = errors.New("another moss changes images just now")

// storePatience is how long move and reset wait for a moss-image: the layers of what has
// been removed are deleted a moment later.
const storePatience = 10 * time.Second

// lockStore keeps every moss-image out, and waits that long for those that are there.
func (e *Engine) lockStore(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	dir := filepath.Join(e.Paths.Root, "storage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK && wait > 0 {
		limited, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		err = container.Flock(limited, f)
	}
	if err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK || ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			err = errBusy
		}
		return nil, err
	}
	held, err1 := f.Stat()
	now, err2 := os.Stat(dir)
	if err := errors.Join(err1, err2); err != nil || !os.SameFile(held, now) { // it was moved meanwhile
		f.Close()
		return nil, errors.Join(errBusy, err)
	}
	return func() { f.Close() }, nil
}
