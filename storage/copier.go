package storage

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"moss/storage/image"
)

// copier copies a tree, owners shifted. Everything else stays: modes, times,
// extended attributes, hard links, device numbers where they can be made.
// Directories are copied beside each other: most of the time goes into the file
// system's own work for each inode.
type copier struct {
	from, to   string
	lower      []string // where the files really are, uppermost first
	uids, gids []image.IDMap
	nobody     [2]int // user and group of what is not mapped
	// redirect makes regular files without bytes, which say by which path the
	// lower layers, as data-only ones, have them; see "Data-only lower layers" in
	// Documentation/filesystems/overlayfs.rst.
	redirect bool

	entries     atomic.Int64 // how many are made
	bytesCopied atomic.Bool  // of a file at least

	mu    sync.Mutex
	more  sync.Cond
	todo  []string // directories that are there, empty, without their attributes
	busy  int      // workers that may find more
	err   error
	first map[inode]string // files with several names, where the first is
	names []name           // their other names
}

type inode struct{ dev, ino uint64 }

// name is another name of a file, in a directory whose times it must not change.
type name struct {
	first, path string
	times       [2]unix.Timespec
}

// run copies all of it; the directory to is there, and empty.
func (c *copier) run() error {
	c.more.L = &c.mu
	c.first = map[inode]string{}
	c.todo = []string{"."}
	c.nobody = [2]int{nobody(c.uids), nobody(c.gids)}
	var workers sync.WaitGroup
	// Nothing is inherited from where the tree is made.
	unix.Removexattr(c.to, "system.posix_acl_default")
	defer unix.Umask(unix.Umask(0))
	for range max(runtime.NumCPU(), 2) {
		workers.Go(func() {
			me := worker{copier: c, uid: -1, gid: -1}
			me.prepare()
			for path, ok := c.next(); ok; path, ok = c.next() {
				c.finished(me.dir(path))
			}
		})
	}
	workers.Wait()
	if c.err != nil {
		return c.err
	}
	return c.link()
}

// next waits for a directory to copy; false when there will be no more.
func (c *copier) next() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.todo) == 0 && c.busy > 0 && c.err == nil {
		c.more.Wait()
	}
	last := len(c.todo) - 1
	if last < 0 || c.err != nil {
		return "", false
	}
	path := c.todo[last]
	c.todo = c.todo[:last]
	c.busy++
	return path, true
}

func (c *copier) finished(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if c.err == nil {
		c.err = err
	}
	c.more.Broadcast()
}

// link gives files their other names, when all first ones are there.
func (c *copier) link() error {
	for _, n := range c.names {
		to := filepath.Join(c.to, n.path)
		if err := os.Link(filepath.Join(c.to, n.first), to); err != nil {
			return err
		}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Dir(to), n.times[:], 0); err != nil {
			return &os.PathError{Op: "utimensat", Path: n.path, Err: err}
		}
	}
	return nil
}

// place is an entry by its directories, so that no path is walked for each call.
type place struct {
	from, to int // the directories
	dir      string
	name     string
	st       unix.Stat_t
}

func (p *place) path() string { return filepath.Join(p.dir, p.name) }

func (p *place) fail(op string, err error) error {
	return &os.PathError{Op: op, Path: p.path(), Err: err}
}

// dir copies a directory's entries and then its own attributes, because making
// entries changes its times. Directories in it are left for other workers.
func (c *worker) dir(path string) error {
	from, err := os.Open(filepath.Join(c.from, path))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Open(filepath.Join(c.to, path))
	if err != nil {
		return err
	}
	defer to.Close()
	names, err := from.Readdirnames(-1)
	if err != nil {
		return err
	}
	var self unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &self); err != nil {
		return &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	for _, name := range names {
		p := place{from: int(from.Fd()), to: int(to.Fd()), dir: path, name: name}
		if err := c.entry(&p, &self); err != nil {
			return err
		}
	}
	c.entries.Add(int64(len(names)))
	p := place{from: int(from.Fd()), to: int(to.Fd()), dir: path, name: ".", st: self}
	return c.attributes(&p, int(to.Fd()), false)
}

func (c *worker) entry(p *place, dir *unix.Stat_t) error {
	if err := unix.Fstatat(p.from, p.name, &p.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return p.fail("lstat", err)
	}
	kind := p.st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		if err := unix.Mkdirat(p.to, p.name, 0o700); err != nil {
			return p.fail("mkdir", err)
		}
		c.mu.Lock()
		c.todo = append(c.todo, p.path())
		c.mu.Unlock()
		c.more.Signal()
		return nil
	}
	if p.st.Nlink > 1 && c.another(p, dir) {
		return nil
	}
	switch kind {
	case unix.S_IFREG:
		return c.file(p)
	case unix.S_IFLNK:
		var target [unix.PathMax]byte
		n, err := unix.Readlinkat(p.from, p.name, target[:])
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), p.to, p.name)
		}
		if err != nil {
			return p.fail("symlink", err)
		}
	default:
		err := unix.Mknodat(p.to, p.name, p.st.Mode, int(p.st.Rdev))
		if errors.Is(err, unix.EPERM) && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			return nil // no devices in a user namespace; see user_namespaces(7)
		}
		if err != nil {
			return p.fail("mknod", err)
		}
	}
	return c.attributes(p, -1, false)
}

// another says whether a file has been, or is being, made under its first name.
func (c *copier) another(p *place, dir *unix.Stat_t) bool {
	id := inode{p.st.Dev, p.st.Ino}
	c.mu.Lock()
	defer c.mu.Unlock()
	first, ok := c.first[id]
	if ok {
		c.names = append(c.names, name{first, p.path(), [2]unix.Timespec{dir.Atim, dir.Mtim}})
	} else {
		c.first[id] = p.path()
	}
	return ok
}

// attributes gives a copy its owner, mode, extended attributes and times, in this
// order: a change of owner takes setuid bits and file capabilities away. fd is the
// copy if it is open, else -1; born says that it has been made with its owner and
// its mode, but for bits that open(2) does not set.
func (c *worker) attributes(p *place, fd int, born bool) error {
	times := []unix.Timespec{p.st.Atim, p.st.Mtim}
	if fd < 0 {
		uid, gid := c.owner(&p.st)
		if err := unix.Fchownat(p.to, p.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return p.fail("chown", err)
		}
		if p.st.Mode&unix.S_IFMT != unix.S_IFLNK {
			if err := unix.Fchmodat(p.to, p.name, p.st.Mode&0o7777, 0); err != nil {
				return p.fail("chmod", err)
			}
		}
		if err := unix.UtimesNanoAt(p.to, p.name, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return p.fail("utimensat", err)
		}
		return nil // only files and directories have attributes that may be set; see xattr(7)
	}
	if !born {
		uid, gid := c.owner(&p.st)
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return p.fail("chown", err)
		}
	}
	if !born || p.st.Mode&0o7000 != 0 {
		if err := unix.Fchmod(fd, p.st.Mode&0o7777); err != nil {
			return p.fail("chmod", err)
		}
	}
	if err := p.copyXattrs(fd); err != nil {
		return p.fail("setxattr", err)
	}
	if err := futimens(fd, times); err != nil {
		return p.fail("utimensat", err)
	}
	return nil
}

// owner is the shifted owner of an entry.
func (c *copier) owner(st *unix.Stat_t) (uid, gid int) {
	uid, ok := shift(c.uids, st.Uid)
	if !ok {
		uid = c.nobody[0]
	}
	gid, ok = shift(c.gids, st.Gid)
	if !ok {
		gid = c.nobody[1]
	}
	return uid, gid
}

// shift maps an ID as the container sees it to the one that its namespace's
// mapping stands for.
func shift(maps []image.IDMap, id uint32) (int, bool) {
	for _, m := range maps {
		if n := int(id) - m.Container; n >= 0 && n < m.Size {
			return m.Host + n, true
		}
	}
	return 0, false
}

// nobody is an ID outside of a mapping, for files whose owner the mapping leaves
// out: the container sees them as the overflow user's; see user_namespaces(7).
func nobody(maps []image.IDMap) int {
	inside := func(id int) bool {
		for _, m := range maps {
			if id >= m.Host && id < m.Host+m.Size {
				return true
			}
		}
		return false
	}
	id := 0
	for inside(id) {
		id++
	}
	return id
}

// copyXattrs copies what a user namespace may set: user.* and capabilities. What
// belongs to overlay itself a mounted overlay does not show.
func (p *place) copyXattrs(to int) error {
	from := "/proc/self/fd/" + itoa(p.from) + "/" + p.name
	var names [1024]byte
	size, err := unix.Llistxattr(from, names[:])
	list := names[:max(size, 0)]
	if errors.Is(err, unix.ERANGE) {
		if size, err = unix.Llistxattr(from, nil); err == nil {
			list = make([]byte, size)
			size, err = unix.Llistxattr(from, list)
		}
	}
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil || size == 0 {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Lgetxattr(from, name, nil)
		if err != nil {
			return err
		}
		value := make([]byte, n)
		if n, err = unix.Lgetxattr(from, name, value); err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, name, value[:n], 0); err != nil {
			return os.NewSyscallError(name, err)
		}
	}
	return nil
}
