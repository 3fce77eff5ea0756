// Package birth clones the first process of a container, or one more process in
// it, and talks with it until it has become the user's program.
//
// It imports the standard library and golang.org/x/sys only: the monitor links it.
package birth

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace joins an existing namespace instead of making a new one.
type Namespace struct {
	Type string // pid, network, ipc, uts, cgroup, user, time (OCI names)
	Path string // /proc/PID/ns/… or a bound file
}

// IDMap is one line of a uid_map or gid_map.
type IDMap struct{ Container, Host, Size int }

// Request describes the process to clone.
type Request struct {
	Runtime string // path of moss-runtime
	// Stage is the path of moss-stage; "" leaves its part to moss-runtime too.
	Stage string `json:",omitempty"`
	// Document is the path of the JSON document that the new process reads:
	// runtime.Document for Start, runtime.ExecDocument for Exec.
	Document string
	// Flags are the CLONE_NEW* flags of the namespaces to make.
	Flags  uintptr
	Join   []Namespace `json:",omitempty"`
	UIDMap []IDMap     `json:",omitempty"` // with CLONE_NEWUSER
	GIDMap []IDMap     `json:",omitempty"`
	// Cgroup is the directory to be born in; "" stays in the caller's. Being
	// born costs 0.1 ms, being migrated 10 ms (an RCU grace period).
	Cgroup string `json:",omitempty"`
	// PreserveFDs is how many descriptors from 3 on the program inherits: the
	// first ones of extra. More of extra is for the init stage only, at 4 and up.
	PreserveFDs int `json:",omitempty"`
	// Holes are those of extra, by index, that it does not inherit, and that are nil.
	Holes []int `json:",omitempty"`
	// Later: the process is not to read its document before Proceed.
	Later bool `json:",omitempty"`

	handOn bool // set by the bridge
}

// namespaceFlags are the CLONE_NEW* flags by OCI name.
var namespaceFlags = map[string]uintptr{
	"pid": unix.CLONE_NEWPID, "network": unix.CLONE_NEWNET, "ipc": unix.CLONE_NEWIPC,
	"uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "user": unix.CLONE_NEWUSER,
	"time": unix.CLONE_NEWTIME, "mount": unix.CLONE_NEWNS,
}

// Start clones `moss-runtime init <document>` straight into its namespaces and
// its cgroup. stdio are the program's standard streams (nil is /dev/null); the
// first PreserveFDs of extra become its descriptors from 3 on. The process then
// works, and waits: see Ready.
func Start(r Request, stdio [3]*os.File, extra []*os.File) (*Process, error) {
	if len(extra) < r.PreserveFDs {
		return nil, fmt.Errorf("cannot start process: %d descriptors to preserve, %d given", r.PreserveFDs, len(extra))
	}
	r.Join = slices.DeleteFunc(slices.Clone(r.Join), together)
	if bridged(r) {
		return startBridged(r, stdio, extra)
	}

	if len(r.Join) == 0 {
		return start(r, stdio, extra)
	}

	// setns(2) changes the calling thread only: it is never unlocked, and so
	// ends with its goroutine.
	type result struct {
		p   *Process
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		for _, ns := range r.Join {
			if err := join(ns); err != nil {
				done <- result{nil, err}
				return
			}
		}
		p, err := start(r, stdio, extra)
		done <- result{p, err}
	}()
	got := <-done
	return got.p, got.err
}

// together reports whether the caller is in that user namespace already: joining
// one's own is refused; see setns(2).
func together(ns Namespace) bool {
	if ns.Type != "user" {
		return false
	}
	var own, its unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &own) == nil && unix.Stat(ns.Path, &its) == nil &&
		own.Dev == its.Dev && own.Ino == its.Ino
}

// join moves the calling thread (for pid: its children) into a namespace.
func join(ns Namespace) error {
	flag, ok := namespaceFlags[ns.Type]
	if !ok || ns.Type == "mount" {
		return fmt.Errorf("cannot join namespace %q: joining a namespace of type %q is not possible", ns.Path, ns.Type)
	}
	fd, err := unix.Open(ns.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot join %s namespace %q: %w", ns.Type, ns.Path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, int(flag)); err != nil {
		return fmt.Errorf("cannot join %s namespace %q: %w", ns.Type, ns.Path, err)
	}
	return nil
}

// start clones the process from the calling thread.
func start(r Request, stdio [3]*os.File, extra []*os.File) (*Process, error) {
	c := clone{
		runtime: r.Runtime, args: []string{"init", r.Document},
		cgroup: r.Cgroup, stdio: stdio, extra: extra, preserve: r.PreserveFDs,
		// A time namespace cannot be asked of clone(2), and is entered by
		// execve(2): the init stage makes it; see time_namespaces(7).
		attr:   syscall.SysProcAttr{Cloneflags: r.Flags &^ unix.CLONE_NEWTIME},
		handOn: r.handOn,
	}
	if r.Stage != "" {
		c.runtime = r.Stage
	}
	if r.Later {
		c.env = append(c.env, "_MOSS_LATER=1")
	}
	if r.handOn {
		c.attr.Cloneflags |= unix.CLONE_PARENT
		keepCapabilities(&c)
	}
	helper := false
	if r.Flags&unix.CLONE_NEWUSER != 0 {
		helper = mapIDs(&c, r)
	}
	p, err := c.start()
	if err != nil {
		return nil, err
	}
	if helper {
		if err := p.mapByHelper(r); err != nil {
			p.Kill()
			p.Wait()
			p.Close()
			return nil, err
		}
	}
	return p, nil
}

// clone is what Start and Exec have in common: one execution of moss-runtime
// with a sync socket.
type clone struct {
	runtime string
	args    []string
	env     []string
	cgroup  string
	stdio   [3]*os.File
	extra   []*os.File
	hidden  []*os.File // more descriptors, after extra, closed before the program runs
	handOn  bool       // give the child this process's sync socket
	attr    syscall.SysProcAttr
	// preserve is how many of extra the program inherits.
	preserve int
	// sync is the child's end of a sync socket that the caller has made.
	sync *os.File
}

// syncFD is the sync socket's descriptor in the child; extra and hidden follow.
const syncFD = 3

// start clones and executes. Files of the caller stay open in the caller.
func (c *clone) start() (*Process, error) {
	p := &Process{sync: -1, pidfd: -1}
	childSync := syncFD // the bridge hands on its own
	if c.sync != nil {
		childSync = int(c.sync.Fd())
	} else if !c.handOn {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot make sync socket: %w", err)
		}
		defer unix.Close(pair[1])
		p.sync, childSync = pair[0], pair[1]
	}

	files, null, err := c.files(childSync)
	if err != nil {
		p.Close()
		return nil, err
	}
	if null >= 0 {
		defer unix.Close(null)
	}
	if c.cgroup != "" {
		fd, err := unix.Open(c.cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("cannot open cgroup %q: %w", c.cgroup, err)
		}
		defer unix.Close(fd)
		c.attr.UseCgroupFD, c.attr.CgroupFD = true, fd
	}
	image, err := openRuntime(c.runtime)
	if err != nil {
		p.Close()
		return nil, err
	}
	defer image.Close()
	if c.preserve > 0 {
		if err := image.above(files); err != nil {
			p.Close()
			return nil, err
		}
	}

	c.attr.PidFD = &p.pidfd
	env := append([]string{
		"_MOSS_FDS=" + strconv.Itoa(c.preserve),
		"_MOSS_HOST=1", // see userns/enter: stay in these namespaces
		// No signal may interrupt the thread between its seccomp filter and
		// execve: the filter may forbid rt_sigreturn.
		"GODEBUG=asyncpreemptoff=1",
		"GOMAXPROCS=1",
		"GOGC=off", // it lives for milliseconds
	}, c.env...)
	if holes := c.holes(); holes != "" {
		env = append(env, "_MOSS_HOLES="+holes)
	}
	argv := append([]string{"moss-runtime"}, c.args...)
	pid, _, err := syscall.StartProcess(image.path, argv, &syscall.ProcAttr{Env: env, Files: files, Sys: &c.attr})
	runtime.KeepAlive(c)
	if err != nil {
		p.Close()
		return nil, c.explain(err)
	}
	p.PID = pid
	return p, nil
}

// files lists the child's descriptors: streams, sync socket, extra, hidden.
func (c *clone) files(sync int) (files []uintptr, null int, err error) {
	null = -1
	for _, f := range c.stdio {
		if f != nil {
			files = append(files, f.Fd())
			continue
		}
		if null < 0 {
			if null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				return nil, -1, fmt.Errorf("cannot open %q: %w", "/dev/null", err)
			}
		}
		files = append(files, uintptr(null))
	}
	files = append(files, uintptr(sync))
	for _, f := range append(c.extra[:len(c.extra):len(c.extra)], c.hidden...) {
		if f == nil { // a hole: see holes
			f = os.Stdin
		}
		files = append(files, f.Fd())
	}
	return files, null, nil
}

// holes are the numbers in extra that the program is not to have, in the words of
// _MOSS_HOLES. The init stage closes them late: what it opens must not take their place.
func (c *clone) holes() string {
	var out []byte
	for i, f := range c.extra[:c.preserve] {
		if f == nil {
			out = append(strconv.AppendInt(out, int64(i), 10), ' ')
		}
	}
	return string(out)
}

// explain says what a refused clone was about.
func (c *clone) explain(err error) error {
	what := "cannot clone process"
	switch {
	case c.cgroup != "":
		what += fmt.Sprintf(" into cgroup %q", c.cgroup)
	case c.attr.Cloneflags&unix.CLONE_NEWUSER != 0:
		what += " into a new user namespace"
	}
	return fmt.Errorf("%s (%s): %w", what, c.runtime, err)
}
