package command

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The container joins the namespaces of another, user namespace included.
func TestJoinNamespaces(t *testing.T) {
	first := newBox(t).sh("sleep 100")
	first.start("first")
	pid := first.state("first").Pid

	b := newBox(t).sh("for n in net ipc uts pid user; do readlink /proc/self/ns/$n; done; hostname")
	for kind, file := range map[specs.LinuxNamespaceType]string{
		specs.NetworkNamespace: "net", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts",
		specs.PIDNamespace: "pid", specs.UserNamespace: "user",
	} {
		if kind == specs.UserNamespace && os.Geteuid() == 0 {
			continue
		}
		b.join(kind, fmt.Sprintf("/proc/%d/ns/%s", pid, file))
	}
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = nil, nil
	b.spec.Hostname = ""
	out := b.ran()
	for _, ns := range []string{"net", "ipc", "uts", "pid", "user"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		must(t, err)
		wantContains(t, ns, out, link)
	}
	wantContains(t, "host name", out, "moss\n")
}

// A new user namespace with a map: the container's root is nobody on the host,
// and yet gets what it mounts from where only the caller may walk.
func TestUserNamespace(t *testing.T) {
	rootOnly(t)
	b := newBox(t).sh("cat /proc/self/uid_map; id -u; cat /private/file; touch /new; ls -ln /new | tr -s ' ' | cut -d' ' -f3; touch /dev/shm/x")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 300000, Size: 1000}}
	b.spec.Linux.UIDMappings, b.spec.Linux.GIDMappings = m, m
	must(t, filepath.Walk(b.rootfs(), func(path string, _ os.FileInfo, _ error) error { return os.Lchown(path, 300000, 300000) }))
	private := filepath.Join(t.TempDir(), "private")
	must(t, os.Mkdir(private, 0o700))
	must(t, os.Mkdir(filepath.Join(private, "dir"), 0o755))
	must(t, os.WriteFile(filepath.Join(private, "dir", "file"), []byte("content\n"), 0o644))
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/private", Type: "bind",
		Source: filepath.Join(private, "dir"), Options: []string{"rbind", "ro"}})
	out := strings.Fields(b.ran())
	if got := strings.Join(out, " "); got != "0 300000 1000 0 content 0" {
		t.Errorf("inside: %s", got)
	}
	var st os.FileInfo
	st, err := os.Stat(filepath.Join(b.rootfs(), "new"))
	must(t, err)
	if owner := fmt.Sprint(st.Sys()); !strings.Contains(owner, "300000") {
		t.Errorf("owner on the host: %s", owner)
	}

	// And one more process in it.
	b.sh("sleep 100")
	b.start("c")
	r := b.run("exec", "c", "sh", "-c", "id -u; cat /proc/self/uid_map")
	if got := strings.Join(strings.Fields(r.out), " "); got != "0 0 300000 1000" {
		t.Errorf("exec: %+v", r)
	}
}

// An ID-mapped mount shows its files as the container's root's.
func TestIDMappedMount(t *testing.T) {
	rootOnly(t)
	b := newBox(t).sh("ls -ln /mapped/file | tr -s ' ' | cut -d' ' -f3")
	source := t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "file"), nil, 0o644))
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 4000, Size: 1000}}
	b.spec.Mounts = append(b.spec.Mounts, specs.Mount{Destination: "/mapped", Type: "bind", Source: source,
		Options: []string{"rbind", "idmap"}, UIDMappings: m, GIDMappings: m})
	r := b.once()
	if strings.Contains(r.err, "cannot map IDs of mount: invalid argument") {
		t.Skip("this file system cannot be ID-mapped")
	}
	if r.out != "4000\n" {
		t.Errorf("%+v", r)
	}
}

// Subordinate IDs are mapped by newuidmap for a plain user.
func TestSubordinateIDs(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("for a plain user")
	}
	first := subordinate(t, "/etc/subuid")
	group := subordinate(t, "/etc/subgid")
	if _, err := exec.LookPath("newuidmap"); err != nil {
		t.Skip("newuidmap is not installed")
	}
	b := newBox(t).sh("awk '{print $3}' /proc/self/uid_map | tr '\\n' ' '; id -u; id -g; cat /proc/self/setgroups")
	b.spec.Process.User = specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}}
	b.spec.Linux.UIDMappings = append(b.spec.Linux.UIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: first, Size: 100})
	b.spec.Linux.GIDMappings = append(b.spec.Linux.GIDMappings, specs.LinuxIDMapping{ContainerID: 1, HostID: group, Size: 100})
	if got := strings.Join(strings.Fields(b.ran()), " "); got != "1 100 5 6 allow" {
		t.Errorf("inside: %s", got)
	}
}

func subordinate(t *testing.T, file string) uint32 {
	t.Helper()
	data, _ := os.ReadFile(file)
	name := os.Getenv("USER")
	for _, line := range strings.Split(string(data), "\n") {
		var first, count uint32
		if f := strings.Split(line, ":"); len(f) == 3 && f[0] == name {
			fmt.Sscan(f[1], &first)
			fmt.Sscan(f[2], &count)
			if count >= 100 {
				return first
			}
		}
	}
	t.Skipf("%s has no range for %q", file, name)
	return 0
}

// The clocks of a time namespace are set off.
func TestTimeNamespace(t *testing.T) {
	if _, err := os.Stat("/proc/self/ns/time"); err != nil {
		t.Skip("this kernel has no time namespaces")
	}
	b := newBox(t).sh("cut -d. -f1 /proc/uptime")
	b.spec.Linux.Namespaces = append(b.spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	b.spec.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000000}}
	var up int
	fmt.Sscan(b.ran(), &up)
	if up < 1000000 {
		t.Errorf("up for %d seconds", up)
	}
}

// Mounts have the attributes and content that their options say.
func TestMountOptions(t *testing.T) {
	b := newBox(t).sh("grep -E ' /m[0-9]' /proc/self/mountinfo | cut -d' ' -f5- | sort; cat /m3/file; ls -ld /m3 | cut -c1-10; echo x >/m1/x; cat /etc/conf")
	source := t.TempDir()
	must(t, os.WriteFile(filepath.Join(source, "file"), []byte("s\n"), 0o644))
	b.file("m3/file", "copied\n")
	must(t, os.Chmod(filepath.Join(b.rootfs(), "m3"), 0o711))
	must(t, os.Symlink("../run/not/yet/conf", filepath.Join(b.rootfs(), "etc/conf")))
	b.spec.Mounts = append(b.spec.Mounts,
		specs.Mount{Destination: "/m1", Type: "bind", Source: source, Options: []string{"rbind", "rro", "nosuid", "nodev", "noexec"}},
		specs.Mount{Destination: "/m2", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k", "mode=700", "noatime"}},
		specs.Mount{Destination: "/m3", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}},
		specs.Mount{Destination: "/etc/conf", Type: "bind", Source: filepath.Join(source, "file"), Options: []string{"bind", "ro", "rprivate"}},
	)
	r := b.once()
	lines := strings.Split(r.out, "\n")
	if len(lines) < 6 {
		t.Fatalf("%+v", r)
	}
	wantContains(t, "bind", lines[0], "/m1 ro,nosuid,nodev,noexec,")
	wantContains(t, "tmpfs", lines[1], "/m2 rw,noatime")
	wantContains(t, "tmpfs", lines[1], "size=64k,mode=700")
	wantContains(t, "copied up", lines[2], "/m3 ro,")
	if strings.Join(lines[3:6], " ") != "copied drwx--x--x s" {
		t.Errorf("%+v", r)
	}
	wantContains(t, "writing", r.err, "Read-only file system")
}

// Propagation: what the host mounts below a slave appears inside.
func TestReadonlyRoot(t *testing.T) {
	b := newBox(t).sh("touch /x; touch /dev/x && echo dev; touch /dev/shm/x && echo shm")
	b.spec.Root.Readonly = true
	r := b.once()
	if r.out != "dev\nshm\n" || !strings.Contains(r.err, "/x: Read-only file system") {
		t.Errorf("%+v", r)
	}
}

// Freezing, listing and limits go by the cgroup.
func TestCgroup(t *testing.T) {
	b := newBox(t).sh("sleep 100 & sleep 100")
	b.start("c")
	c, err := load(&global{root: b.root}, "c")
	must(t, err)
	if !c.OwnCgroup {
		t.Skip("no cgroup can be made here")
	}
	detached := exec.Command(program, "--root", b.root, "exec", "-d", "c", "sleep", "100")
	must(t, detached.Run())
	if r := b.run("ps", "--format", "json", "c"); strings.Count(r.out, ",") != 2 {
		t.Errorf("processes: %+v", r)
	}
	if r := b.run("pause", "c"); r.code != 0 || b.state("c").Status != "paused" {
		t.Errorf("pause: %+v", r)
	}
	if r := b.run("exec", "c", "true"); r.code == 0 {
		t.Error("a paused container ran a program")
	}
	if r := b.run("resume", "c"); r.code != 0 || b.state("c").Status != specs.StateRunning {
		t.Errorf("resume: %+v", r)
	}
	pid := b.state("c").Pid
	if r := b.run("kill", "--all", "c", "KILL"); r.code != 0 {
		t.Error(r.err)
	}
	ended(t, pid)
	if r := b.run("delete", "c"); r.code != 0 {
		t.Error(r.err)
	}
	if _, err := os.Stat(c.Cgroup); err == nil {
		t.Errorf("the cgroup %s is left", c.Cgroup)
	}
}

// What is asked for and cannot be done is an error, and nothing is made.
func TestRefusals(t *testing.T) {
	limit := int64(1 << 20)
	for says, change := range map[string]func(*specs.Spec){
		"ociVersion":           func(s *specs.Spec) { s.Version = "2.0" },
		"not an absolute path": func(s *specs.Spec) { s.Process.Cwd = "tmp" },
		"given twice":          func(s *specs.Spec) { s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0]) },
		"no AppArmor":          func(s *specs.Spec) { s.Process.ApparmorProfile = "some" },
		"intelRdt":             func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} },
		"no uts namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UTSNamespace })
		},
		"needs a memory limit": func(s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: &limit}}
		},
		"unknown action":          func(s *specs.Spec) { s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: "x"} },
		"cannot find root":        func(s *specs.Spec) { s.Root.Path = "nowhere" },
		"unknown policy":          func(s *specs.Spec) { s.Process.Scheduler = &specs.Scheduler{Policy: "x"} },
		"is not an absolute path": func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "x"}}} },
	} {
		b := newBox(t).sh("true")
		change(b.spec)
		r := b.once()
		if r.code == 0 || !strings.Contains(r.err, says) {
			t.Errorf("%s: %+v", says, r)
		}
		if l := b.run("list", "-q"); l.out != "" {
			t.Errorf("%s: left behind: %s", says, l.out)
		}
	}
}
