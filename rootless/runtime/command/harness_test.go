package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// These tests run the built program on a busybox root filesystem, as whoever runs
// them: the host's root without a user namespace, anybody else with one.

// program is the runtime under test: $MOSS_RUNTIME, or one built here.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		program = os.Getenv("MOSS_RUNTIME")
		if program == "" {
			dir, err := os.MkdirTemp("", "moss-runtime-test")
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer os.RemoveAll(dir)
			os.Chmod(dir, 0o755)
			program = filepath.Join(dir, "moss-runtime")
			build := exec.Command("go", "build", "-buildvcs=false", "-tags", "netgo osusergo",
				"-ldflags", "-s -w -extldflags -static", "-o", program, "moss/cmd/moss-runtime")
			build.Env = append(os.Environ(), "CGO_ENABLED=1")
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "cannot build moss-runtime: %v\n%s", err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// box is one test's bundle and state directory.
type box struct {
	t      *testing.T
	root   string // --root
	bundle string
	spec   *specs.Spec
}

// newBox makes a bundle, or skips the test where containers cannot run.
func newBox(t *testing.T) *box {
	t.Helper()
	busybox := ""
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(path); err == nil {
			busybox = path
		}
	}
	if busybox == "" {
		t.Skip("busybox-static is not installed")
	}
	if os.Geteuid() != 0 {
		if out, err := exec.Command("unshare", "--user", "--map-root-user", "true").CombinedOutput(); err != nil {
			t.Skipf("user namespaces cannot be made here: %v: %s", err, out)
		}
	}
	dir := t.TempDir()
	b := &box{t: t, root: filepath.Join(dir, "state"), bundle: filepath.Join(dir, "bundle")}
	bin := filepath.Join(b.rootfs(), "bin")
	for _, d := range []string{bin, filepath.Join(b.rootfs(), "etc"), filepath.Join(b.rootfs(), "tmp")} {
		must(t, os.MkdirAll(d, 0o755))
	}
	data, err := os.ReadFile(busybox)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(bin, "busybox"), data, 0o755))
	list, err := exec.Command(busybox, "--list").Output()
	must(t, err)
	for _, name := range strings.Fields(string(list)) {
		os.Symlink("busybox", filepath.Join(bin, name))
	}
	b.spec = example(os.Geteuid() != 0)
	b.spec.Process.Terminal = false
	b.spec.Root.Readonly = false
	b.spec.Linux.CgroupsPath = ""
	t.Cleanup(func() {
		entries, _ := os.ReadDir(b.root)
		for _, e := range entries {
			b.run("delete", "--force", e.Name())
		}
	})
	return b
}

func (b *box) rootfs() string { return filepath.Join(b.bundle, "rootfs") }

// file writes a file of the image.
func (b *box) file(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.rootfs(), name)
	must(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(b.t, os.WriteFile(path, []byte(content), 0o755))
	return path
}

// sh sets the program to a shell script.
func (b *box) sh(script string) *box {
	b.spec.Process.Args = []string{"sh", "-c", script}
	return b
}

// write writes config.json.
func (b *box) write() {
	b.t.Helper()
	data, err := json.MarshalIndent(b.spec, "", "\t")
	must(b.t, err)
	must(b.t, os.WriteFile(filepath.Join(b.bundle, "config.json"), data, 0o644))
}

// result of one command.
type result struct {
	out, err string
	code     int
}

// command prepares a command of the runtime, with its standard streams caught.
func (b *box) command(args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := exec.Command(program, append([]string{"--root", b.root}, args...)...)
	var out, err bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &err
	cmd.WaitDelay = 5 * time.Second
	return cmd, &out, &err
}

func (b *box) run(args ...string) result {
	b.t.Helper()
	cmd, out, stderr := b.command(args...)
	return finish(b.t, cmd, out, stderr)
}

func finish(t *testing.T, cmd *exec.Cmd, out, stderr *bytes.Buffer) result {
	t.Helper()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr)
	}
	return result{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// ran runs the container and wants it to end well.
func (b *box) ran() string {
	b.t.Helper()
	r := b.once()
	if r.code != 0 {
		b.t.Fatalf("exit code %d\nout: %s\nerr: %s", r.code, r.out, r.err)
	}
	return r.out
}

// once runs the container and returns how it went.
func (b *box) once() result {
	b.t.Helper()
	b.write()
	return b.run("run", "--bundle", b.bundle, "once")
}

// start creates and starts a container with output to a file.
func (b *box) start(id string) (output string) {
	b.t.Helper()
	b.write()
	b.created(id)
	if r := b.run("start", id); r.code != 0 {
		b.t.Fatalf("cannot start: %s%s", r.err, b.output(id))
	}
	return b.outputPath(id)
}

// created creates a container: like a monitor, it gives it streams that outlive
// the command.
func (b *box) created(id string, flags ...string) {
	b.t.Helper()
	f, err := os.Create(b.outputPath(id))
	must(b.t, err)
	defer f.Close()
	args := append([]string{"--root", b.root, "create", "--bundle", b.bundle}, flags...)
	cmd := exec.Command(program, append(args, id)...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("cannot create: %v: %s", err, b.output(id))
	}
}

func (b *box) outputPath(id string) string { return filepath.Join(filepath.Dir(b.bundle), id+".out") }

func (b *box) output(id string) string {
	data, _ := os.ReadFile(b.outputPath(id))
	return string(data)
}

// until waits until a container has written something.
func (b *box) until(id, text string) {
	b.t.Helper()
	for range 500 {
		if strings.Contains(b.output(id), text) {
			return
		}
		unix.Poll(nil, 10)
	}
	b.t.Fatalf("never written: %q; but: %s", text, b.output(id))
}

// state is the OCI state of a container.
func (b *box) state(id string) specs.State {
	b.t.Helper()
	r := b.run("state", id)
	if r.code != 0 {
		b.t.Fatalf("cannot read state: %s", r.err)
	}
	var s specs.State
	must(b.t, json.Unmarshal([]byte(r.out), &s))
	return s
}

// ended waits until a process is gone.
func ended(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	n, err := 0, error(unix.EINTR)
	for err == unix.EINTR {
		n, err = poll(fd)
	}
	if n != 1 {
		t.Fatalf("process %d does not end: %v", pid, err)
	}
}

func poll(fd int) (int, error) {
	return unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
}

// without removes a namespace from the specification.
func (b *box) without(kind specs.LinuxNamespaceType) {
	var rest []specs.LinuxNamespace
	for _, ns := range b.spec.Linux.Namespaces {
		if ns.Type != kind {
			rest = append(rest, ns)
		}
	}
	b.spec.Linux.Namespaces = rest
}

// join replaces a namespace by another process's.
func (b *box) join(kind specs.LinuxNamespaceType, path string) {
	b.without(kind)
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantContains(t *testing.T, what, text, want string) {
	t.Helper()
	if !strings.Contains(text, want) {
		t.Errorf("%s: no %q in:\n%s", what, want, text)
	}
}

func rootOnly(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs the host's root")
	}
}
