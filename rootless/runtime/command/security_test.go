package command

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Each of these tests fails when the defence that it names is taken out.

// No descriptor of the caller's reaches the program but those asked for.
// Defence: close_range in arrangeDescriptors.
func TestNoDescriptorLeaks(t *testing.T) {
	b := newBox(t).sh("ls /proc/self/fd | sort -n | tr '\\n' ' '; cat <&3")
	b.write()
	asked, err := os.Open(filepath.Join(b.bundle, "config.json"))
	must(t, err)
	defer asked.Close()
	leaky, err := unix.Open("/", unix.O_RDONLY, 0) // no O_CLOEXEC: the runtime inherits it
	must(t, err)
	defer unix.Close(leaky)

	cmd, out, stderr := b.command("run", "--bundle", b.bundle, "--preserve-fds", "1", "c")
	cmd.ExtraFiles = []*os.File{asked}
	r := finish(t, cmd, out, stderr)
	list, content, _ := strings.Cut(r.out, "{")
	if strings.TrimSpace(list) != "0 1 2 3 4" || content == "" { // 4 is ls's own
		t.Errorf("descriptors %q, the one asked for has %d bytes: %s", list, len(content), r.err)
	}
}

// A mount target that is a symbolic link to the host stays in the container.
// Defence: RESOLVE_IN_ROOT in openIn.
func TestMountTargetLink(t *testing.T) {
	b := newBox(t).sh("cat /out/victim; cat /gone/made")
	host := t.TempDir()
	must(t, os.WriteFile(filepath.Join(host, "victim"), []byte("host\n"), 0o644))
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, []byte("mounted\n"), 0o644))
	must(t, os.Symlink(host, filepath.Join(b.rootfs(), "out")))
	must(t, os.Symlink("/"+strings.Repeat("../", 20)+strings.TrimPrefix(host, "/")+"/new", filepath.Join(b.rootfs(), "gone")))
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/out/victim", Type: "bind", Source: source, Options: []string{"bind"}},
		specs.Mount{Destination: "/gone/made", Type: "bind", Source: source, Options: []string{"bind"}})
	if out := b.ran(); out != "mounted\nmounted\n" {
		t.Errorf("inside: %q", out)
	}
	entries, err := os.ReadDir(host)
	must(t, err)
	if len(entries) != 1 {
		t.Errorf("made on the host: %v", entries)
	}
	if _, err := os.Stat(filepath.Join(b.rootfs(), host, "victim")); err != nil {
		t.Errorf("not made in the container: %v", err)
	}
}

// An image whose /proc is a link is refused: its masks would cover nothing.
// Defence: RESOLVE_NO_SYMLINKS in realDirectory.
func TestProcLink(t *testing.T) {
	b := newBox(t).sh("true")
	must(t, os.Symlink("/tmp", filepath.Join(b.rootfs(), "proc")))
	if r := b.once(); r.code == 0 || !strings.Contains(r.err, "symbolic link") {
		t.Errorf("%+v", r)
	}
}

// Masked files are empty, masked directories too, and neither can be written.
// Defence: mask; deviceNull's check of what it binds.
func TestMaskedPaths(t *testing.T) {
	b := newBox(t).sh("cat /secret; ls /hidden; touch /hidden/x; echo -; cat /proc/timer_list | wc -c; umount /secret; cat /secret")
	b.file("secret", "secret\n")
	b.file("hidden/file", "secret\n")
	b.spec.Linux.MaskedPaths = append(b.spec.Linux.MaskedPaths, "/secret", "/hidden", "/not/there")
	r := b.once()
	if r.out != "-\n0\n" {
		t.Errorf("%+v", r)
	}
	wantContains(t, "writing", r.err, "Read-only file system")
}

// Read-only paths stay so, with what is mounted in them.
// Defence: readOnly.
func TestReadonlyPaths(t *testing.T) {
	b := newBox(t).sh("touch /kept/x; touch /kept/sub/x; echo 1 >/proc/sys/kernel/domainname; touch /free")
	b.file("kept/f", "")
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/kept/sub", Type: "tmpfs", Source: "tmpfs"})
	b.spec.Linux.ReadonlyPaths = append(b.spec.Linux.ReadonlyPaths, "/kept")
	r := b.once()
	if strings.Count(r.err, "Read-only file system") != 3 || r.code != 0 {
		t.Errorf("%+v", r)
	}
}

// A working directory through a descriptor of the host's is refused
// (CVE-2024-21626). Defence: insideRoot.
func TestWorkingDirectoryOutside(t *testing.T) {
	b := newBox(t).sh("pwd; ls")
	b.write()
	host, err := os.Open("/")
	must(t, err)
	defer host.Close()
	b.spec.Process.Cwd = "/proc/self/fd/4" // extra descriptors of the init stage begin at 4
	b.write()
	cmd, out, stderr := b.command("run", "--bundle", b.bundle, "--preserve-fds", "1", "c")
	cmd.ExtraFiles = []*os.File{host}
	r := finish(t, cmd, out, stderr)
	if r.code == 0 || !strings.Contains(r.err, "outside of the container") {
		t.Errorf("%+v", r)
	}
}

// The runtime's own program cannot be written from inside (CVE-2019-5736).
// Defence: the read-only clone, or the sealed copy, in birth/image.go.
func TestProgramCannotBeOverwritten(t *testing.T) {
	// The container's program finds a process whose program is the runtime's,
	// opens that, ends the process, and writes as soon as nothing executes the
	// file (until then it is "text busy").
	b := newBox(t).sh(`while :; do
		for pid in $(ls /proc | grep '^[0-9]'); do
			if readlink /proc/$pid/exe | grep -q moss-runtime; then
				exec 4</proc/$pid/exe; kill -9 $pid
				for n in $(seq 20); do
					echo broken 2>/dev/null >/proc/self/fd/4 && echo OVERWRITTEN && break
					sleep 0.1
				done
				echo tried; exit
			fi
		done
	done`)
	original, err := os.ReadFile(program)
	must(t, err)
	victim := filepath.Join(filepath.Dir(b.bundle), "moss-runtime")
	must(t, os.WriteFile(victim, original, 0o777))
	old := program
	program = victim
	defer func() { program = old }()

	// Something for the runtime's program to wait at.
	must(t, os.MkdirAll(filepath.Join(b.rootfs(), "st", "x"), 0o755))
	must(t, unix.Mkfifo(filepath.Join(b.rootfs(), "st", "x", "state.json"), 0o666))
	output := b.start("c")
	pid := b.state("c").Pid
	b.background("exec", "c", "/proc/self/exe", "--root", "/st", "state", "x")
	ended(t, pid)
	if out, err := os.ReadFile(output); err != nil || string(out) != "tried\n" {
		t.Errorf("the attack: %s %v", out, err)
	}
	now, err := os.ReadFile(victim)
	must(t, err)
	if !bytes.Equal(now, original) {
		t.Error("the program on the host is another one")
	}
}

// background runs a command that the test does not wait for.
func (b *box) background(args ...string) {
	b.t.Helper()
	cmd, _, _ := b.command(args...)
	must(b.t, cmd.Start())
	go cmd.Wait() // ends with the command
	b.t.Cleanup(func() { cmd.Process.Kill() })
}

// A sysctl that is the host's is refused, one of the container's is set.
// Defence: namespaced.
func TestSysctl(t *testing.T) {
	b := newBox(t).sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax")
	b.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_unprivileged_port_start": "77", "kernel.msgmax": "8000"}
	if out := b.ran(); out != "77\n8000\n" {
		t.Errorf("values: %q", out)
	}
	for _, key := range []string{"kernel.panic", "vm.swappiness", "net/../kernel/panic", "kernel.hostname"} {
		b := newBox(t).sh("true")
		b.spec.Linux.Sysctl = map[string]string{key: "1"}
		if r := b.once(); r.code == 0 || !strings.Contains(r.err, "cannot set sysctl") {
			t.Errorf("%s: %+v", key, r)
		}
	}
	host := newBox(t).sh("true")
	host.without(specs.NetworkNamespace)
	host.spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	if r := host.once(); r.code == 0 {
		t.Error("the host's network was changed")
	}
}

// The capabilities are those of the specification, also for another user.
// Defence: become.
func TestCapabilities(t *testing.T) {
	status := "grep -E '^(Cap|NoNew|Uid|Gid|Groups|Seccomp:)' /proc/self/status | tr -s '\\t' ' '"
	b := newBox(t).sh(status)
	b.spec.Process.NoNewPrivileges = false
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	out := b.ran()
	for _, want := range []string{"CapInh: 0000000000000000", "CapPrm: 0000000000000021", "CapEff: 0000000000000021",
		"CapBnd: 0000000000000021", "CapAmb: 0000000000000000", "NoNewPrivs: 0", "Seccomp: 2"} {
		wantContains(t, "root", out, want)
	}
	if os.Geteuid() != 0 {
		return // one ID only is mapped
	}
	b = newBox(t).sh(status)
	b.spec.Process.NoNewPrivileges = false
	b.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}}
	b.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps,
		Inheritable: []string{"CAP_KILL"}, Ambient: []string{"CAP_KILL"}}
	b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
	out = b.ran()
	for _, want := range []string{"Uid: 1000 1000 1000 1000", "Gid: 1001 1001 1001 1001", "Groups: 5 6",
		"CapPrm: 0000000000000020", "CapEff: 0000000000000020", "CapAmb: 0000000000000020", "CapBnd: 0000000000000021"} {
		wantContains(t, "user", out, want)
	}
	b.spec.Process.Capabilities.Ambient, b.spec.Process.Capabilities.Inheritable = nil, nil
	wantContains(t, "user without ambient", b.ran(), "CapEff: 0000000000000000")
}

// The filter is in force, with and without no_new_privs, and for exec. It need
// allow nothing that the runtime does after loading it but execve.
func TestSeccomp(t *testing.T) {
	for _, nnp := range []bool{true, false} {
		b := newBox(t).sh("mkdir /made; sleep 100")
		b.spec.Process.NoNewPrivileges = nnp
		errno := uint(unix.EDOM)
		b.spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "mkdirat", "not_a_call"}, Action: specs.ActErrno, ErrnoRet: &errno},
			{Names: []string{"setresuid", "setresgid", "setgroups", "capset", "close_range", "sendmsg"}, Action: specs.ActKillProcess},
		}}
		b.start("c")
		b.until("c", "mkdir")
		wantContains(t, "first process", b.output("c"), "Numerical argument out of domain")
		r := b.run("exec", "c", "mkdir", "/made")
		wantContains(t, "exec", r.err, "Numerical argument out of domain")
	}
}
