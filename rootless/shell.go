package rootless

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/storage/driver"
	"moss/storage/image"
)

// ShellOptions describe a shell beside a container.
type ShellOptions struct {
	Image   string        // with the tools; "" is the built-in one
	Pull    CreateOptions // how that image is got
	Command string        // in place of an interactive shell
	Exec    ExecOptions   // user, environment, directory, terminal, streams
	Raw     func() error  // called when all is there, before the shell runs
}

// Shell runs a shell from an image with tools in the namespaces of a container, or,
// if it does not run, in new ones like them, where what it does to the container's
// files is thrown away. The container sees neither the tools nor their mounts.
func (e *Engine) Shell(ctx context.Context, c *container.Container, o ShellOptions) (code int, err error) {
	code, err = e.shell(ctx, c, o)
	var helper *HelperError
	if err != nil && !errors.As(err, &helper) {
		err = fmt.Errorf("cannot open a shell in container %q: %w", c.Spec.Name, err)
	}
	return code, err
}

func (e *Engine) shell(ctx context.Context, c *container.Container, o ShellOptions) (code int, err error) {
	if d, err := driver.Cached(e.Paths.Root); err != nil || d.Name != driver.Native {
		return 0, errors.Join(err, fmt.Errorf("it needs the kernel's overlay: %s", d.Why))
	}
	if o.Image == "" {
		o.Image = BuiltinImage
	}
	img, err := e.resolve(ctx, o.Image, "", o.Pull)
	if err != nil {
		return 0, err
	}
	var undo rollback
	defer func() {
		for _, f := range slices.Backward(undo) { // whatever the outcome, nothing stays
			err = errors.Join(err, f())
		}
	}()
	scratch, err := e.scratch(&undo)
	if err != nil {
		return 0, err
	}
	v := c.Look()
	live := v.Live
	switch v.Status {
	case container.StatusRunning:
	case container.StatusPaused, container.StatusRestarting:
		return 0, fmt.Errorf("it is %s", v.Status)
	default:
		if live, err = e.stoodIn(ctx, c, scratch, &undo); err != nil {
			return 0, err
		}
	}
	tools, err := e.tools(ctx, &c.Spec, img, scratch, &undo)
	if err != nil {
		return 0, err
	}
	defer tools.Close()
	sh, err := findShell(tools)
	if err != nil {
		return 0, fmt.Errorf("image %q: %w", o.Image, err)
	}
	e.note(c, event.Exec)
	return e.besides(ctx, c, live, img, tools, sh, o)
}

// scratch is a directory for the time of one shell. One whose moss was killed is
// not locked any more, and goes with the next.
func (e *Engine) scratch(undo *rollback) (string, error) {
	home := filepath.Join(e.Paths.Run, "shell")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	left, _ := filepath.Glob(filepath.Join(home, "*"))
	for _, dir := range left {
		if f, err := os.Open(dir); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				record.RemoveTree(dir)
			}
			f.Close()
		}
	}
	dir, err := os.MkdirTemp(home, "")
	if err != nil {
		return "", err
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	undo.add(func() error { return errors.Join(record.RemoveTree(dir), f.Close()) })
	return dir, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

// stoodIn makes the namespaces of a container that does not run, around a first
// process that never executes its program. Its files are the container's; changes
// go to scratch. It stays in moss's own cgroup.
func (e *Engine) stoodIn(ctx context.Context, c *container.Container, scratch string, undo *rollback) (*container.Live, error) {
	spec := c.Spec // a copy
	spec.ID, spec.Runtime, spec.Lifecycle.AutoRemove = newID(), "", true
	// The program may be what is missing: the reaper is always there.
	spec.Process.Init, spec.Process.InitPath, spec.Process.TTY = true, "", false
	spec.Process.User, spec.Process.Groups, spec.Process.Dir = "0", nil, "/"
	l := &launch{e: e, c: &container.Container{Spec: spec, Dir: c.Dir, RunDir: filepath.Join(scratch, "run")}}
	if err := os.MkdirAll(filepath.Join(l.c.RunDir, "rootfs"), 0o700); err != nil {
		return nil, err
	}
	l.config()
	l.cfg.Network = nil // nothing is connected
	l.in.Root, l.in.Hostname, l.in.NewNetwork, l.in.Files = filepath.Join(l.c.RunDir, "rootfs"), spec.Network.Hostname, newNetwork(&spec), map[string]string{}
	doc, err := l.document(ctx)
	*undo = append(*undo, l.undo...)
	if err != nil {
		return nil, err
	}
	if o := doc.Overlay; o != nil {
		o.Lower = append([]string{o.Upper}, o.Lower...)
		var owner unix.Stat_t
		if err := unix.Stat(o.Upper, &owner); err != nil {
			return nil, err
		}
		if o.Upper, o.Work, err = upperDirs(scratch, "changes", int(owner.Uid), int(owner.Gid), owner.Mode); err != nil {
			return nil, err
		}
	}
	doc.CopyUp, doc.Chown = nil, nil
	if err := l.files(doc); err != nil {
		return nil, err
	}
	if err := l.birth(ctx, doc); err != nil {
		return nil, err
	}
	p, err := birth.Start(l.cfg.Birth, [3]*os.File{}, nil)
	if err != nil {
		return nil, err
	}
	undo.add(func() error {
		p.Kill()
		_, err := p.Wait()
		p.Close()
		return err
	})
	if _, err := p.Ready(); err != nil {
		return nil, err
	}
	return &container.Live{PID: p.PID}, nil
}

// upperDirs makes the directories of an upper layer, with the root's owner and mode.
func upperDirs(dir, name string, uid, gid int, mode uint32) (upper, work string, err error) {
	upper, work = filepath.Join(dir, name), filepath.Join(dir, name+"-work")
	for _, d := range []string{upper, work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return "", "", err
		}
	}
	return upper, work, errors.Join(os.Chown(upper, uid, gid), os.Chmod(upper, os.FileMode(mode&0o777)))
}

// tools mounts the image with the tools, detached, with owners as the container sees
// them. What is written there is thrown away.
func (e *Engine) tools(ctx context.Context, spec *container.Spec, img *image.Image, scratch string, undo *rollback) (*os.File, error) {
	o, unmount, err := e.layers(ctx, spec, img, scratch)
	if err != nil {
		return nil, err
	}
	for _, path := range unmount {
		undo.add(func() error { return unix.Unmount(path, unix.MNT_DETACH) })
	}
	owner, err := e.rootOwner(ctx, spec, img)
	if err != nil {
		return nil, err
	}
	b := birth.Overlay{Lower: o.Lower, DataOnly: o.DataOnly, UIDMap: o.UIDMap, GIDMap: o.GIDMap, UserXattr: true, Volatile: true}
	if b.Upper, b.Work, err = upperDirs(scratch, "tools", int(owner.Uid), int(owner.Gid), 0o755); err != nil {
		return nil, err
	}
	point := filepath.Join(scratch, "point")
	if err := os.Mkdir(point, 0o700); err != nil {
		return nil, err
	}
	fd, attached, err := b.Mount(point)
	if err != nil {
		return nil, err
	}
	if attached { // a copy can be moved by whom this one's namespace is not
		defer unix.Unmount(point, unix.MNT_DETACH)
		defer unix.Close(fd)
		if fd, err = unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH); err != nil {
			return nil, err
		}
	}
	return os.NewFile(uintptr(fd), "tools"), nil
}

// shellFile is a shell in an image.
type shellFile struct {
	path string // in the image
	// moves says that it runs wherever the image is mounted: it needs no library, and
	// no link by an absolute path leads to it.
	moves bool
}

// findShell looks for the best shell.
func findShell(tools *os.File) (shellFile, error) {
	for _, path := range []string{"usr/bin/bash", "bin/bash", "usr/local/bin/bash", "bin/ash", "bin/sh", "usr/bin/sh", "busybox/sh"} {
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
		fd, err := unix.Openat2(int(tools.Fd()), path, &how)
		if err != nil {
			continue
		}
		f := os.NewFile(uintptr(fd), path)
		static := !interpreted(f)
		f.Close()
		// Without an absolute link the same path is found beneath, too.
		how.Resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS
		beneath, err := unix.Openat2(int(tools.Fd()), path, &how)
		if err == nil {
			unix.Close(beneath)
		}
		return shellFile{"/" + path, static && err == nil}, nil
	}
	return shellFile{}, errors.New("it has no shell: neither bash, ash nor sh")
}

// interpreted says whether a program is a script, or wants a dynamic linker; see elf(5).
func interpreted(f *os.File) bool {
	var head [4096]byte
	n, err := f.ReadAt(head[:], 0)
	if n < 64 || string(head[:4]) != "\x7fELF" || head[4] != 2 {
		return err == nil || n > 0
	}
	order := binary.NativeEndian
	at, size, count := int(order.Uint64(head[32:])), int(order.Uint16(head[54:])), int(order.Uint16(head[56:]))
	for i := range count {
		p := at + i*size
		if p+4 > n || order.Uint32(head[p:]) == 3 { // PT_INTERP
			return true
		}
	}
	return false
}

// besides executes the shell.
func (e *Engine) besides(ctx context.Context, c *container.Container, live *container.Live, img *image.Image, tools *os.File, sh shellFile, o ShellOptions) (int, error) {
	x := o.Exec
	path, dirs := sh.path, []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	aside := &runtime.Aside{FD: firstExtra, Root: !sh.moves}
	own := "PATH=" + strings.Join(dirs, ":")
	for _, kv := range c.Spec.Process.Env {
		if strings.HasPrefix(kv, "PATH=") && sh.moves {
			own = kv
		}
	}
	var env []string
	if sh.moves {
		path = runtime.ToolsDir + sh.path
		for i, dir := range dirs {
			dirs[i] = runtime.ToolsDir + dir
		}
		own = "PATH=" + strings.Join(dirs, ":") + ":" + strings.TrimPrefix(own, "PATH=")
	} else {
		env = append(env, slices.DeleteFunc(slices.Clone(img.Config.Env), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") })...)
		if x.Dir == "" {
			x.Dir = runtime.ContainerDir
		}
	}
	x.Env = override(append(env, own, "MOSS_CONTAINER="+c.Spec.Name), x.Env)
	x.Args, x.NoSession = []string{path}, true
	if o.Command != "" {
		x.Args = append(x.Args, "-c", o.Command)
	}
	if x.User == "" {
		x.User = "0"
	}
	if x.Dir == "" {
		x.Dir = "/"
	}
	with := *c
	// To look at a program one has to be allowed to trace it.
	with.Spec.Security.CapAdd = append(slices.Clone(c.Spec.Security.CapAdd), "SYS_PTRACE")
	doc, err := e.execDocument(&with, live, x)
	if err != nil {
		return 0, err
	}
	doc.Aside, doc.Bound = aside, true // it needs what is taken away after it
	data, err := record.Encode(doc)
	if err != nil {
		return 0, err
	}
	stdio, err := execStdio(x)
	if err != nil {
		return 0, err
	}
	p, err := birth.Exec(birth.ExecRequest{Runtime: Helper("moss-runtime"), Data: data}, stdio, []*os.File{tools})
	if err != nil {
		return 0, err
	}
	if err := o.Raw(); err != nil {
		p.Kill()
		return 0, err
	}
	return (&session{e: e, c: c, o: x, id: newID(), p: p}).follow(ctx)
}

// firstExtra is the descriptor of birth's first extra file in the init stage.
const firstExtra = 4
