package rootless

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/runtime"
	"moss/rootless/tree"
	"moss/storage/limit"
	"moss/userns"
	"moss/userns/slack"
)

// Place is one end of a copy.
type Place struct {
	Container *container.Container // nil: the host
	// Path as the user gave it. One of a container that is not absolute begins
	// in its working directory.
	Path string
}

func (p Place) String() string {
	if p.Container == nil {
		return fmt.Sprintf("%q", p.Path)
	}
	return fmt.Sprintf("%q of container %q", p.Path, p.Container.Spec.Name)
}

// CopyOptions of Copy, CopyOut and CopyIn.
type CopyOptions struct {
	// KeepOwner keeps the numbers of owners, in place of giving everything to the
	// container's user. What is copied to the host is always the caller's.
	KeepOwner bool
	// Overwrite lets a directory be replaced by a file, and the other way round.
	Overwrite bool
}

// end is a Place that is open.
type end struct {
	Place
	view *view // nil: the host
	root tree.Root
	ids  *userns.Mapping
	path string // absolute, in a container
}

// contents says whether the path asks for what is in a directory, not for itself.
func (p Place) contents() bool { return p.Path != "" && filepath.Base(p.Path) == "." }

// openEnds opens both ends; a container only once, and two of them always in the
// same order, since each may be locked.
func (e *Engine) openEnds(ctx context.Context, from, to Place) (a, b *end, done func(), err error) {
	var undo []func()
	done = func() {
		for _, u := range undo {
			u()
		}
	}
	ends := []*end{{Place: from, root: tree.Host(), path: from.Path}, {Place: to, root: tree.Host(), path: to.Path}}
	order := []int{0, 1}
	if from.Container != nil && to.Container != nil && from.Container.Spec.ID > to.Container.Spec.ID {
		order = []int{1, 0}
	}
	for n, i := range order {
		end := ends[i]
		if end.Container == nil {
			continue
		}
		if other := ends[order[0]]; n == 1 && other.Container != nil && other.Container.Spec.ID == end.Container.Spec.ID {
			end.view = other.view
		} else if end.view, err = e.look(ctx, end.Container, true); err != nil {
			done()
			return nil, nil, nil, fmt.Errorf("cannot open container %q: %w", end.Container.Spec.Name, err)
		} else {
			undo = append(undo, end.view.close)
		}
		end.root = end.view.root()
		if end.ids, err = e.idsOf(&end.Container.Spec); err != nil {
			done()
			return nil, nil, nil, err
		}
		if !filepath.IsAbs(end.path) {
			// Not Join: a slash at the end, and "..", mean something.
			end.path = strings.TrimSuffix(end.Container.Spec.Process.Dir, "/") + "/" + end.path
		}
	}
	return ends[0], ends[1], done, nil
}

// idsOf is the mapping of the container's user namespace, nil if it has none.
func (e *Engine) idsOf(spec *container.Spec) (*userns.Mapping, error) {
	if other, ok := strings.CutPrefix(spec.Namespaces.User, "container:"); ok {
		c, err := e.Find(other)
		if err != nil {
			return nil, err
		}
		return e.idsOf(&c.Spec)
	}
	return e.mapping(spec)
}

// source finds what is to be copied.
func (f *end) source() (*tree.Entry, error) {
	entry, err := f.root.Entry(f.path)
	if err != nil {
		return nil, err
	}
	switch {
	case !entry.Exists:
		err = unix.ENOENT
	case !entry.IsDir() && (f.contents() || strings.HasSuffix(f.path, "/")):
		err = unix.ENOTDIR
	}
	if err != nil {
		entry.Close()
		return nil, err
	}
	return entry, nil
}

// podman's and Docker's rules.
var (
	errDirectory   = errors.New("a directory can only be copied to a directory")
	errNoDirectory = errors.New("the directory to copy to is not there")
)

// name is the name under which a source is put into a directory. As with podman
// that is the name that was given on the host, and the one that it has in a
// container, should a symbolic link have led there.
func (f *end) name(source *tree.Entry) string {
	if given := filepath.Base(f.path); f.view == nil && given != ".." && given != "/" {
		return given
	}
	return source.Name
}

// target finds where the copy of from belongs: in a directory under name, in
// place of a file, or under a new name. With merge it is the directory itself.
func (t *end) target(from *tree.Entry, name string, contents bool) (entry *tree.Entry, merge bool, err error) {
	if err := t.lasting(); err != nil {
		return nil, false, err
	}
	entry, err = t.root.Entry(t.path)
	if errors.Is(err, unix.ENOENT) {
		err = errNoDirectory
	}
	if err != nil {
		return nil, false, err
	}
	switch {
	case entry.IsDir() && contents:
		merge = true
	case entry.IsDir():
		in, err := entry.Into(name)
		entry.Close()
		return in, false, err
	case strings.HasSuffix(t.path, "/") && entry.Exists:
		err = unix.ENOTDIR
	case strings.HasSuffix(t.path, "/"):
		err = errNoDirectory
	case entry.Exists && from.IsDir():
		err = errDirectory
	}
	if err != nil {
		entry.Close()
		return nil, false, err
	}
	return entry, merge, nil
}

// Copy copies a file or a directory between the host and a container, or two
// containers, by the rules of podman-cp(1).
func (e *Engine) Copy(ctx context.Context, from, to Place, o CopyOptions) error {
	a, b, done, err := e.openEnds(ctx, from, to)
	if err != nil {
		return err
	}
	defer done()
	if err := copyEnds(ctx, a, b, o); err != nil {
		return fmt.Errorf("cannot copy %s to %s: %w", from, to, err)
	}
	return nil
}

func copyEnds(ctx context.Context, a, b *end, o CopyOptions) error {
	source, err := a.source()
	if err != nil {
		return err
	}
	defer source.Close()
	contents := a.contents() || source.Name == "." // the root has no name to be copied under
	target, merge, err := b.target(source, a.name(source), contents)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := b.writable(target); err != nil {
		return err
	}
	options := tree.Options{Overwrite: o.Overwrite, NoDevices: b.view == nil}
	if options.Owner, err = owner(a, b, o); err != nil {
		return err
	}
	if a.view != nil && a.view.running {
		options.Skip = skipUnreadable
	}
	return interrupted(ctx, tree.Copy(ctx, source, target, merge, options))
}

// interrupted says what an interrupted copy leaves.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("interrupted; what was copied before is there, and no half file: %w", ctx.Err())
	}
	return err
}

// skipUnreadable goes on without what nobody but a kernel with more rights may
// read, such as the terminal of a container.
func skipUnreadable(path string, err error) bool {
	if !tree.Unreadable(err) {
		return false
	}
	slog.Warn("left out, because it cannot be read", "path", path, "err", err)
	return true
}

// lasting refuses to write where the container would never see it.
func (t *end) lasting() error {
	if t.view == nil {
		return nil
	}
	if mount, ok := t.view.inTmpfs(filepath.Clean(t.path)); ok {
		return fmt.Errorf("%q is a tmpfs, which is there only while the container runs: %w", mount, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// writable refuses to write to the layer of a read-only container, as its own
// kernel would if it ran.
func (t *end) writable(target *tree.Entry) error {
	if t.view == nil || t.view.running || !t.Container.Spec.Rootfs.ReadOnly {
		return nil
	}
	var root, st unix.Stat_t
	if err := unix.Fstat(int(t.view.dir.Fd()), &root); err != nil {
		return err
	}
	if err := unix.Fstat(int(target.Dir.Fd()), &st); err != nil {
		return err
	}
	if root.Dev == st.Dev {
		return fmt.Errorf("the container's root file system is read-only: %w", unix.EROFS)
	}
	return nil
}

// owner says whose the copies are.
func owner(from, to *end, o CopyOptions) (func(uid, gid uint32) (int, int, error), error) {
	if to.view == nil {
		return func(uint32, uint32) (int, int, error) { return 0, 0, nil }, nil // the caller, in the user's namespace
	}
	if o.KeepOwner {
		return func(uid, gid uint32) (int, int, error) { return keepOwner(from.ids, to.ids, int(uid), int(gid)) }, nil
	}
	user, group, err := runtime.UserIn(to.view.dir, to.Container.Spec.Process.User)
	if err != nil {
		return nil, err
	}
	uid, gid, ok := to.ids.Host(user, group)
	if !ok {
		return nil, fmt.Errorf("the container's user %d:%d has no ID in its user namespace", user, group)
	}
	return func(uint32, uint32) (int, int, error) { return uid, gid, nil }, nil
}

// keepOwner is the owner with the same number in another user namespace.
func keepOwner(from, to *userns.Mapping, uid, gid int) (int, int, error) {
	user, group, ok := from.Container(uid, gid)
	if ok {
		uid, gid, ok = to.Host(user, group)
	}
	if !ok {
		return 0, 0, fmt.Errorf("its owner %d:%d has no ID in the container's user namespace", uid, gid)
	}
	return uid, gid, nil
}

// containerOwner gives owners the numbers that the container knows them by; who
// has none there is nobody, as the kernel shows it.
func containerOwner(ids *userns.Mapping) func(uid, gid uint32) (int, int, error) {
	return func(uid, gid uint32) (int, int, error) {
		const overflow = 65534 // see user_namespaces(7)
		u, g, ok := ids.Container(int(uid), int(gid))
		if !ok {
			return overflow, overflow, nil
		}
		return u, g, nil
	}
}

// CopyOut writes a file or a directory of a container to w as a tar archive.
func (e *Engine) CopyOut(ctx context.Context, from Place, w io.Writer) error {
	a, _, done, err := e.openEnds(ctx, from, Place{})
	if err != nil {
		return err
	}
	defer done()
	source, err := a.source()
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", from, err)
	}
	defer source.Close()
	name := source.Name
	if a.contents() || name == "." {
		name = ""
	}
	options := tree.Options{Owner: containerOwner(a.ids)}
	if a.view.running {
		options.Skip = skipUnreadable
	}
	if err := writeTree(ctx, w, source, name, options); err != nil {
		return fmt.Errorf("cannot copy %s: %w", from, err)
	}
	return nil
}

// writeTree writes an archive of one tree.
func writeTree(ctx context.Context, w io.Writer, source *tree.Entry, name string, o tree.Options) error {
	buffered := bufio.NewWriterSize(w, 1<<20)
	archive := tree.NewWriter(ctx, buffered, o)
	if err := archive.Tree(source, name); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// CopyIn unpacks a tar archive, which may be compressed, into a directory of a
// container.
func (e *Engine) CopyIn(ctx context.Context, r io.Reader, to Place, o CopyOptions) error {
	_, b, done, err := e.openEnds(ctx, Place{}, to)
	if err != nil {
		return err
	}
	defer done()
	if err := extractTo(ctx, r, b, o, limit.Of(e.Config)); err != nil {
		return fmt.Errorf("cannot copy the archive to %s: %w", to, err)
	}
	return nil
}

func extractTo(ctx context.Context, r io.Reader, b *end, o CopyOptions, l limit.Limits) error {
	if err := b.lasting(); err != nil {
		return err
	}
	target, err := b.root.Entry(b.path)
	if err != nil {
		return err
	}
	defer target.Close()
	if !target.IsDir() {
		return errors.New("it must be a directory that is there")
	}
	if err := b.writable(target); err != nil {
		return err
	}
	options := tree.Options{Overwrite: o.Overwrite, Limits: l}
	if options.Owner, err = owner(&end{}, b, o); err != nil {
		return err
	}
	window := limit.NewWindow(r, l)
	plain, done, err := decompressed(ctx, window)
	if err != nil {
		return err
	}
	err = tree.Extract(ctx, plain, b.root, b.path, options)
	if err == nil { // what an archive may have after its end
		_, err = io.Copy(io.Discard, limit.NewJudge(l, "").Reader(plain))
	}
	if err = done(err); window.Err() != nil {
		err = window.Err() // the others follow from it
	}
	return interrupted(ctx, err)
}

// decompressors are the programs for what gzip is not, by the first bytes.
var decompressors = [...]struct{ magic, program string }{{"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}}

// decompressed is r, or what a compressed r holds.
// The function ends it, after an error or at the end, and says what went wrong.
func decompressed(ctx context.Context, r io.Reader) (io.Reader, func(error) error, error) {
	none := func(err error) error { return err }
	buffered := bufio.NewReaderSize(r, 1<<20)
	magic, _ := buffered.Peek(6)
	if strings.HasPrefix(string(magic), "\x1f\x8b") {
		plain, err := gzip.NewReader(buffered)
		return plain, none, err
	}
	for _, d := range decompressors {
		if strings.HasPrefix(string(magic), d.magic) {
			return decompressedBy(ctx, d.program, buffered)
		}
	}
	return buffered, none, nil
}

func decompressedBy(ctx context.Context, program string, r io.Reader) (io.Reader, func(error) error, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, "-dc")
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = slack.Exactly(cmd.Start)
	}
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("the archive is compressed by %s: %w", program, err)
	}
	return out, func(err error) error {
		if err != nil { // it need not decompress the rest
			cancel()
			cmd.Wait()
			return err
		}
		defer cancel()
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("cannot decompress the archive: %s: %v", program, err) // its exit code is not ours
		}
		return nil
	}, nil
}
