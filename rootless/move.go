package rootless

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/tree"
	"moss/storage/driver"
	"moss/userns"
)

// Move puts everything that survives a reboot elsewhere, to the directory to, which
// must not be there or must be empty; where it was there is then a symbolic link.
// Whenever moss is killed or the power cut, the store is whole at one of the two
// places, and found there. Nothing must run.
func (e *Engine) Move(ctx context.Context, to string) error {
	if err := e.move(ctx, to); err != nil {
		return fmt.Errorf("cannot move %q to %q: %w", e.Paths.Root, to, err)
	}
	return nil
}

// Files in the store: in one that was moved, where its old copy may still be; in one
// that is being copied, where the copy may be.
const (
	movedFrom = "moved-from"
	movingTo  = "moving-to"
)

// mover is one Move.
type mover struct {
	*Engine
	link string // what users and records call the store: <root>
	from string // the directory that it is
	to   string
	new  string // beside to, until it is whole
}

func (e *Engine) move(ctx context.Context, to string) error {
	unlock, err := e.lockStore(ctx, storePatience)
	if err != nil {
		return err
	}
	defer unlock()
	m := &mover{Engine: e, link: e.Paths.Root}
	if m.from, err = filepath.EvalSymlinks(m.link); err != nil {
		return err
	}
	if err := m.idle(); err != nil {
		return err
	}
	for _, left := range e.moved() {
		if err := left.remove(); err != nil {
			return err
		}
	}
	if err := m.target(to); err != nil {
		return err
	}
	if err := record.Replace(filepath.Join(m.from, movingTo), []byte(m.new+"\n"+m.to), 0o600, true); err != nil {
		return err
	}
	err = m.rename()
	if errors.Is(err, unix.EXDEV) {
		err = m.copy(ctx)
	}
	for _, left := range e.moved() {
		err = errors.Join(err, left.remove())
	}
	return err
}

// idle refuses while anything uses the store by its place.
func (m *mover) idle() error {
	all, err := m.All()
	if err != nil {
		return err
	}
	for i, v := range Look(all) {
		if v.Live != nil {
			return fmt.Errorf("container %q is %s; stop it first: %w", all[i].Spec.Name, v.Status, errdefs.ErrConflict)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if at := strings.Fields(line)[4]; strings.HasPrefix(at, m.from+"/") || strings.HasPrefix(at, m.Paths.Mounts()+"/") {
			return fmt.Errorf("something is mounted on %q; 'moss unmount', 'image unmount' or 'volume unmount' undoes that: %w", at, errdefs.ErrConflict)
		}
	}
	return nil
}

// target checks the place, and makes what it lies in.
func (m *mover) target(to string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(to))
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(to), 0o700); err == nil {
			parent, err = filepath.EvalSymlinks(filepath.Dir(to))
		}
	}
	if err != nil {
		return err
	}
	m.to = filepath.Join(parent, filepath.Base(to))
	m.new = filepath.Join(parent, ".moving-"+filepath.Base(to))
	home, err := filepath.EvalSymlinks(filepath.Dir(m.link))
	if err != nil {
		return err
	}
	back := m.to == filepath.Join(home, filepath.Base(m.link))
	switch {
	case m.to == m.from:
		return errors.New("it is there already")
	case strings.HasPrefix(m.to+"/", m.from+"/"):
		return errors.New("it cannot be moved into itself")
	}
	if !back {
		if err := os.Remove(m.to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			if errors.Is(err, unix.ENOTEMPTY) {
				return errors.New("there are files in it")
			}
			return fmt.Errorf("it is in the way: %w", err)
		}
	}
	return m.sameDriver(parent)
}

// sameDriver refuses a file system on which the layers would be of no use.
func (m *mover) sameDriver(dir string) error {
	here, err := driver.Cached(m.from)
	if err != nil {
		return err
	}
	there, err := driver.Probe(dir)
	if err != nil {
		return err
	}
	if here.Name != there.Name {
		return fmt.Errorf("layers are kept as %s here and could only be kept as %s there: %s", here.Name, there.Name, there.Why)
	}
	return nil
}

// rename moves within a file system: one step exchanges the directory with a link
// that leads to where it then is.
func (m *mover) rename() error {
	home, err := filepath.EvalSymlinks(filepath.Dir(m.link))
	if err != nil {
		return err
	}
	link := filepath.Join(home, filepath.Base(m.link))
	if m.to == link { // back to where the link is now
		if err := exchange(m.from, link); err != nil {
			return err
		}
		return os.Remove(m.from)
	}
	if err := os.Symlink(m.to, m.new); err != nil {
		return err
	}
	// A link to itself, which nobody follows until it has changed places.
	if err := os.Rename(m.new, m.to); err != nil {
		return errors.Join(err, os.Remove(m.new))
	}
	if err := exchange(m.from, m.to); err != nil {
		return errors.Join(err, os.Remove(m.to))
	}
	if m.from == link {
		return nil
	}
	// It was moved before: link leads to from, and that to where it is now.
	if err := m.pointTo(link); err != nil {
		return err
	}
	return os.Remove(m.from)
}

// pointTo makes link lead to the new place.
func (m *mover) pointTo(link string) error {
	beside := filepath.Join(filepath.Dir(link), ".moving-"+filepath.Base(link))
	if err := os.Remove(beside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(m.to, beside); err != nil {
		return err
	}
	return errors.Join(os.Rename(beside, link), syncPath(filepath.Dir(link)))
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: a, New: b, Err: err}
	}
	return errors.Join(syncPath(filepath.Dir(a)), syncPath(filepath.Dir(b)))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copy moves to another file system. The old directory goes when the new one is
// known to be found.
func (m *mover) copy(ctx context.Context) error {
	home, err := filepath.EvalSymlinks(filepath.Dir(m.link))
	if err != nil {
		return err
	}
	link := filepath.Join(home, filepath.Base(m.link))
	old := m.from
	if m.from == link {
		old = filepath.Join(home, ".moving-"+filepath.Base(link))
	}
	if err := m.copyStill(ctx, old); err != nil {
		return errors.Join(err, record.RemoveTree(m.new))
	}
	switch {
	case m.to == link: // back; the link goes to the place of the copy
		if err := exchange(m.new, link); err != nil {
			return err
		}
		return os.Remove(m.new)
	case m.from != link:
		if err := os.Rename(m.new, m.to); err != nil {
			return err
		}
		return errors.Join(syncPath(filepath.Dir(m.to)), m.pointTo(link))
	}
	if err := os.Rename(m.new, m.to); err != nil {
		return err
	}
	if err := record.RemoveTree(old); err != nil {
		return err
	}
	if err := errors.Join(syncPath(filepath.Dir(m.to)), os.Symlink(m.to, old)); err != nil {
		return err
	}
	return exchange(old, link)
}

// copyStill copies, and again if somebody has changed something meanwhile.
func (m *mover) copyStill(ctx context.Context, old string) error {
	for range 3 {
		before, err := fingerprint(m.from)
		if err != nil {
			return err
		}
		if err := m.copyOnce(ctx); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(m.new, movedFrom), []byte(old), 0o600); err != nil {
			return err
		}
		f, err := os.Open(m.new)
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
			return err
		}
		if after, err := fingerprint(m.from); err != nil || after == before {
			return errors.Join(err, m.idle())
		}
		if err := record.RemoveTree(m.new); err != nil {
			return err
		}
	}
	return fmt.Errorf("it changes all the time: %w", errdefs.ErrConflict)
}

func (m *mover) copyOnce(ctx context.Context) error {
	from, err := tree.Host().Entry(m.from)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := tree.Host().Entry(m.new)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := tree.Copy(ctx, from, to, false, tree.Options{ACLs: true, Overlay: true}); err != nil {
		return err
	}
	// What was found out about the old file system.
	for _, file := range []string{"storage-driver.json", "owner-shift.json", movingTo} {
		if err := os.Remove(filepath.Join(m.new, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fingerprint changes with whatever changes below a directory, but the events, which
// everybody writes.
func fingerprint(dir string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		switch {
		case path == filepath.Join(dir, "events"):
			return fs.SkipDir
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return nil // gone: its directory tells
		}
		fmt.Fprintln(sum, path, st.Ino, st.Size, st.Ctim)
		return nil
	})
	return string(sum.Sum(nil)), err
}

// moved finds what Move has left that was killed: a copy that nobody knows yet, or the
// old one that nobody knows any more.
func (e *Engine) moved() (all []leftover) {
	here, err := filepath.EvalSymlinks(e.Paths.Root)
	if err != nil {
		return nil
	}
	left := func(path string) {
		// A link that leads here is one too; the store itself is not.
		if fi, err := os.Lstat(path); err != nil || path == here || !fi.IsDir() && fi.Mode()&fs.ModeSymlink == 0 {
			return
		}
		all = append(all, leftover{"copy of the store", path, func() error { return record.RemoveTree(path) }})
	}
	for _, name := range []string{movedFrom, movingTo} {
		marker := filepath.Join(here, name)
		data, err := os.ReadFile(marker)
		if err != nil {
			continue
		}
		for path := range strings.SplitSeq(string(data), "\n") {
			// What has no marker of its own is no copy: somebody else's directory.
			to, _ := os.Readlink(path)
			if name == movingTo && !strings.HasPrefix(filepath.Base(path), ".moving-") && to != path && !lexists(filepath.Join(path, movedFrom)) {
				continue
			}
			left(path)
		}
		all = append(all, leftover{"mark of a move", marker, func() error { return os.Remove(marker) }})
	}
	return all
}

// Migrate stops all containers and ends the pause process: with the next command
// there is another, with the subordinate IDs that the user has then. With a runtime,
// containers are run by that from now on. It returns the IDs of what it has stopped.
func (e *Engine) Migrate(ctx context.Context, runtime string) (stopped []string, err error) {
	all, err := e.All()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		if c.Look().Live != nil {
			if err := e.Stop(ctx, c, nil); err != nil {
				return stopped, err
			}
			stopped = append(stopped, c.Spec.ID)
		}
		if runtime == "" {
			continue
		}
		if err := e.giveRuntime(ctx, c, runtime); err != nil {
			return stopped, fmt.Errorf("cannot give container %q another runtime: %w", c.Spec.Name, err)
		}
	}
	return stopped, userns.Release(e.Paths.Dirs)
}

func (e *Engine) giveRuntime(ctx context.Context, c *container.Container, runtime string) error {
	if err := c.Whole(); err != nil {
		return err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	c.Spec.Runtime = runtime
	return record.Write(filepath.Join(c.Dir, container.SpecFile), &c.Spec, true)
}
