package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/rootless/runtime/seccomp"
)

// creation are the flags of create and run, and what is on its way.
type creation struct {
	bundle, pidFile, consoleSocket string
	noPivot, detach, keep          bool
	preserve                       int

	c      *container
	p      *birth.Process
	master *os.File
	undo   []func()
}

func setupCreate(fs *flag.FlagSet) func(*global, []string) (int, error) {
	n := &creation{}
	n.flags(fs)
	return func(g *global, args []string) (int, error) {
		id, err := one(args)
		if err != nil {
			return 1, err
		}
		return 0, n.create(g, id)
	}
}

// flags are those that create and run share.
func (n *creation) flags(fs *flag.FlagSet) {
	fs.StringVar(&n.bundle, "bundle", ".", "directory of the bundle")
	fs.StringVar(&n.bundle, "b", ".", "directory of the bundle")
	fs.StringVar(&n.pidFile, "pid-file", "", "file to write the process ID to")
	fs.StringVar(&n.consoleSocket, "console-socket", "", "unix socket to send the terminal to")
	fs.BoolVar(&n.noPivot, "no-pivot", false, "move the root filesystem in place of pivot_root")
	fs.IntVar(&n.preserve, "preserve-fds", 0, "number of more descriptors to pass on, from 3")
	fs.Bool("no-new-keyring", false, "accepted; no session keyring is made")
}

// create makes the container and leaves its init stage waiting for start.
func (n *creation) create(g *global, id string) error {
	if err := n.prepare(g, id); err != nil {
		return err
	}
	listener, err := n.listen()
	if err == nil {
		defer listener.Close()
		err = n.birth(listener)
	}
	if err == nil {
		err = n.passConsole()
	}
	if err == nil {
		err = n.writePID()
	}
	if err == nil {
		err = n.p.Go() // to its wait
	}
	if err != nil {
		return n.fail(err)
	}
	n.p.Close()
	return nil
}

// fail takes back what has been done.
func (n *creation) fail(err error) error {
	if n.p != nil {
		n.p.Kill()
		n.p.Wait()
		n.p.Close()
		n.poststop()
	}
	for i := len(n.undo) - 1; i >= 0; i-- {
		n.undo[i]()
	}
	return explain(err)
}

// explain adds to an error what other tools look for in it: podman and Docker
// tell "not found" (127) from other errors by runc's words.
func explain(err error) error {
	var said *birth.InitError
	if errors.As(err, &said) && said.Code == 127 {
		return fmt.Errorf("%w: executable file not found in $PATH, no such file or directory", err)
	}
	return err
}

// prepare reads the bundle, reserves the ID and makes the cgroup.
func (n *creation) prepare(g *global, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	bundle, err := filepath.Abs(n.bundle)
	if err != nil {
		return fmt.Errorf("cannot find bundle: %w", err)
	}
	spec, err := readSpec(bundle)
	if err != nil {
		return err
	}
	if n.consoleSocket != "" && !spec.Process.Terminal {
		return errors.New("cannot use --console-socket: the process has no terminal")
	}
	if err := os.MkdirAll(g.root, 0o711); err != nil {
		return fmt.Errorf("cannot make state directory: %w", err)
	}
	dir := filepath.Join(g.root, id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("cannot create container %q: a container of that ID exists", id)
		}
		return fmt.Errorf("cannot create container %q: %w", id, err)
	}
	n.undo = append(n.undo, func() { os.RemoveAll(dir) })
	n.c = &container{dir: dir, spec: spec, kept: kept{
		ID: id, Bundle: bundle, Rootfs: spec.Root.Path, Created: time.Now().UTC(), Owner: owner(),
	}}
	if err := writeJSON(filepath.Join(dir, "config.json"), spec); err != nil {
		return n.fail(err)
	}
	if n.c.Cgroup, n.c.OwnCgroup, err = makeCgroup(spec, id); err != nil {
		return n.fail(err)
	}
	if n.c.OwnCgroup {
		n.undo = append(n.undo, func() { removeCgroup(n.c.Cgroup) })
	}
	return nil
}

func owner() string {
	u, err := user.LookupId(strconv.Itoa(os.Getuid()))
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

// readSpec reads and checks a bundle's config.json.
func readSpec(bundle string) (*specs.Spec, error) {
	data, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read bundle: %w", err)
	}
	spec := new(specs.Spec)
	if err := json.Unmarshal(data, spec); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", filepath.Join(bundle, "config.json"), err)
	}
	if err := check(spec); err != nil {
		return nil, fmt.Errorf("cannot use %q: %w", filepath.Join(bundle, "config.json"), err)
	}
	if !filepath.IsAbs(spec.Root.Path) {
		spec.Root.Path = filepath.Join(bundle, spec.Root.Path)
	}
	// The mount table and pivot_root(2) know the real path only.
	real, err := filepath.EvalSymlinks(spec.Root.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot find root filesystem: %w", err)
	}
	spec.Root.Path = real
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		if isBind(m) && !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(bundle, m.Source) // see OCI config.md, "Mounts"
		}
	}
	return spec, nil
}

func isBind(m *specs.Mount) bool {
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return m.Type == "bind"
}

// listen makes the socket at which the init stage waits for start.
func (n *creation) listen() (*os.File, error) {
	// By a descriptor of its directory: a socket's path holds 108 bytes.
	dir, err := os.Open(n.c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/start.sock", dir.Fd())})
	}
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make start socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "start.sock"), nil
}

// birth clones the container's first process and waits until it is ready. With a
// listener it will wait there for start.
func (n *creation) birth(listener *os.File) error {
	spec := n.c.spec
	doc := &runtime.Document{
		Spec: spec, Console: spec.Process.Terminal, NoPivot: n.noPivot, State: n.c.state(),
		KeepGroups: spec.Annotations["run.oci.keep_original_groups"] == "1",
	}
	var err error
	if doc.SeccompBPF, err = filterFile(filepath.Dir(n.c.dir), spec.Linux.Seccomp); err != nil {
		return err
	}
	extra, err := preserved(n.preserve)
	if err != nil {
		return err
	}
	if listener != nil {
		doc.StartFD = 4 + len(extra)
		extra = append(extra, listener)
	}
	path := filepath.Join(n.c.dir, "init.json")
	if err := writeJSON(path, doc); err != nil {
		return err
	}
	defer os.Remove(path)
	r, err := runtime.Request(spec)
	if err != nil {
		return err
	}
	r.Document, r.Cgroup, r.PreserveFDs = path, n.c.Cgroup, n.preserve
	if r.Runtime, err = os.Executable(); err != nil {
		return err
	}
	stdio := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	if spec.Process.Terminal {
		stdio = [3]*os.File{nil, nil, os.Stderr} // the terminal takes their place
	}
	if n.p, err = birth.Start(r, stdio, extra); err != nil {
		return err
	}
	n.c.PID = n.p.PID
	if n.c.PIDStart, _, err = processStart(n.p.PID); err != nil {
		return err
	}
	if err := n.c.save(); err != nil {
		return err
	}
	n.p.Hooks = n.createHooks
	n.p.Listener = n.seccompListener
	n.master, err = n.p.Ready()
	return err
}

// filterFile keeps compiled profiles beside the containers, for the next one; ""
// for a profile that the init stage must see as it is.
func filterFile(root string, profile *specs.LinuxSeccomp) (string, error) {
	if profile == nil {
		return "", nil
	}
	key, err := json.Marshal(profile)
	if err != nil {
		return "", err
	}
	path, err := seccomp.Cached(filepath.Join(root, ".seccomp"), key, func() (*specs.LinuxSeccomp, error) { return profile, nil })
	if errors.Is(err, seccomp.ErrNotCacheable) {
		return "", nil
	}
	return path, err
}

// preserved opens the descriptors of --preserve-fds.
func preserved(count int) ([]*os.File, error) {
	var files []*os.File
	for i := range count {
		f := os.NewFile(uintptr(3+i), "preserved")
		if _, err := f.Stat(); err != nil {
			return nil, fmt.Errorf("cannot pass on descriptor %d: it is not open", 3+i)
		}
		files = append(files, f)
	}
	return files, nil
}

// createHooks runs prestart and createRuntime, in our namespaces.
func (n *creation) createHooks() error {
	h := n.c.spec.Hooks
	state := n.c.state()
	state.Status = specs.StateCreating
	//nolint:staticcheck // deprecated, but of the specification
	//lint:ignore SA1019 the specification still has them, and wants them run
	if err := runtime.RunHooks("prestart", h.Prestart, state); err != nil {
		return err
	}
	return runtime.RunHooks("createRuntime", h.CreateRuntime, state)
}

func (n *creation) poststop() {
	if h := n.c.spec.Hooks; h != nil {
		state := n.c.state()
		state.Status, state.Pid = specs.StateStopped, 0
		if err := runtime.RunHooks("poststop", h.Poststop, state); err != nil {
			fmt.Fprintln(os.Stderr, "moss-runtime:", err) // logged, and goes on: OCI runtime.md
		}
	}
}

func (n *creation) writePID() error { return writePIDFile(n.pidFile, n.c.PID) }

func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	if err := writeFile(path, []byte(strconv.Itoa(pid))); err != nil {
		return fmt.Errorf("cannot write pid file: %w", err)
	}
	return nil
}
