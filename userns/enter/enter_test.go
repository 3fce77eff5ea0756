package enter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/userns"
)

// The test binary is its own moss: the constructor is linked into it, and as
// "enter.test probe" it enters and tells where it is. When root runs the tests
// the probes run as a user whom no file names, and who has one ID only.
const unknownUser = 61234

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") || os.Getenv("MOSS_PROBE") != "" {
		probe()
	}
	os.Exit(m.Run())
}

// place is what a probe prints.
type place struct {
	Joined, LostDir, Single bool
	UID, GID                int
	Dir                     string
	User, Mount             string // namespaces
	Env                     []string
	FDs                     []int
	Maps                    []userns.IDMap
}

func probe() {
	if os.Getenv("MOSS_PROBE") != "" { // the constructor alone
		json.NewEncoder(os.Stdout).Encode(place{Joined: Joined()})
		os.Exit(0)
	}
	dirs, err := userns.FindDirs()
	if err == nil && !Joined() && userns.Needed(os.Args) {
		err = userns.Enter(context.Background(), dirs)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	p := place{Joined: Joined(), LostDir: LostDir(), Single: userns.SingleID(dirs), UID: os.Getuid(), GID: os.Getgid()}
	p.Dir, _ = os.Getwd()
	p.User, _ = os.Readlink("/proc/self/ns/user")
	p.Mount, _ = os.Readlink("/proc/self/ns/mnt")
	p.Maps, _ = userns.ReadIDMap("/proc/self/uid_map")
	for _, env := range os.Environ() {
		if strings.HasPrefix(env, "_MOSS") {
			p.Env = append(p.Env, env)
		}
	}
	p.FDs = inheritable()
	json.NewEncoder(os.Stdout).Encode(p)
	if os.Args[1] == "stay" {
		os.Stdin.Read(make([]byte, 1))
	}
	os.Exit(0)
}

// inheritable are the descriptors that an exec hands on, beside the first three.
func inheritable() (fds []int) {
	for fd := 3; fd < 300; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// leaks are those of a probe that the test itself has not been given.
func (p place) leaks() []int {
	given := inheritable()
	return slices.DeleteFunc(p.FDs, func(fd int) bool { return slices.Contains(given, fd) })
}

// world is one user's run directory.
type world struct {
	t    *testing.T
	run  string
	self string
	cred *syscall.Credential
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Not t.TempDir: the other user must get there.
	base, err := os.MkdirTemp("/tmp", "moss-enter")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, run: filepath.Join(base, "run"), self: filepath.Join(base, "probe")}
	t.Cleanup(func() { os.RemoveAll(base) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(base, 0o755), os.WriteFile(w.self, self, 0o755), os.Mkdir(w.run, 0o700)); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		w.cred = &syscall.Credential{Uid: unknownUser, Gid: unknownUser, NoSetGroups: false}
		if err := os.Chown(w.run, unknownUser, unknownUser); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if pid, _ := w.pause(); pid > 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	if out, err := w.command("probe").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine makes no user namespaces for us: %s", out)
	}
	return w
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(w.self, args...)
	cmd.Args[0] = "moss"
	cmd.Dir = "/tmp"
	cmd.Env = []string{"HOME=/nonexistent", "MOSS_RUN=" + w.run, "MOSS_ROOT=" + filepath.Join(w.run, "root"), "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.cred}
	return cmd
}

func (w *world) probe(args ...string) place {
	w.t.Helper()
	return w.output(w.command(append([]string{"probe"}, args...)...))
}

func (w *world) output(cmd *exec.Cmd) place {
	w.t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("probe: %v: %s", err, stderr.Bytes())
	}
	var p place
	if err := json.Unmarshal(out, &p); err != nil {
		w.t.Fatalf("probe says %q", out)
	}
	return p
}

// pause reads the pause process's PID and the line about it.
func (w *world) pause() (int, string) {
	data, _ := os.ReadFile(filepath.Join(w.run, "pause"))
	fields := strings.Fields(string(data))
	if len(fields) < 3 {
		return 0, ""
	}
	pid, _ := strconv.Atoi(fields[1])
	return pid, string(data)
}

// rewrite changes one field of the pause file in place: it keeps its owner.
func (w *world) rewrite(field int, value string) {
	w.t.Helper()
	_, line := w.pause()
	fields := strings.Fields(line)
	fields[field] = value
	if err := os.WriteFile(filepath.Join(w.run, "pause"), []byte(strings.Join(fields, " ")+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) killPause() {
	w.t.Helper()
	pid, _ := w.pause()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer unix.Close(fd)
	syscall.Kill(pid, syscall.SIGTERM)
	if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		w.t.Fatal("the pause process does not end by SIGTERM")
	}
}

func TestSecondJoinsWhatTheFirstMade(t *testing.T) {
	w := newWorld(t)
	first, line := w.pause()
	a, b := w.probe(), w.probe()
	if !a.Joined || a.User != b.User || a.Mount != b.Mount {
		t.Errorf("joined %+v and %+v", a, b)
	}
	own, _ := os.Readlink("/proc/self/ns/user")
	if a.User == own {
		t.Error("the probe is in our namespace")
	}
	if a.UID != 0 || a.GID != 0 || a.Dir != "/tmp" || a.LostDir {
		t.Errorf("user %d:%d in %q", a.UID, a.GID, a.Dir)
	}
	if a.Env != nil || len(a.leaks()) > 0 {
		t.Errorf("leaks variables %q, descriptors %v", a.Env, a.FDs)
	}
	if again, same := w.pause(); again != first || same != line {
		t.Errorf("another pause process: %q, then %q", line, same)
	}
	if a.Single != (len(a.Maps) == 1 && a.Maps[0].Size == 1) {
		t.Errorf("single %v, maps %v", a.Single, a.Maps)
	}
}

func TestSlowPathLeaksNothing(t *testing.T) {
	w := newWorld(t)
	w.killPause()
	if p := w.probe(); !p.Joined || p.Env != nil || len(p.leaks()) > 0 || p.Dir != "/tmp" {
		t.Errorf("%+v", p)
	}
}

func TestFirstRunsAtOnceMakeOnePause(t *testing.T) {
	w := newWorld(t)
	w.killPause()
	os.Remove(filepath.Join(w.run, "pause"))
	var group sync.WaitGroup
	users := make([]string, 8)
	for i := range users {
		group.Go(func() {
			out, _ := w.command("probe").Output()
			var p place
			json.Unmarshal(out, &p)
			users[i] = p.User
		})
	}
	group.Wait()
	if slices.Sort(users); users[0] == "" || users[0] != users[len(users)-1] {
		t.Errorf("namespaces %q", users)
	}
}

func TestPauseIsSmallAndSurvivesTheTerminal(t *testing.T) {
	w := newWorld(t)
	pid, _ := w.pause()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil || len(fds) != 0 {
		t.Errorf("open descriptors %v, %v", fds, err)
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if string(name) != "moss-pause\n" {
		t.Errorf("its name is %q", name)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d of process %d, %v", sid, pid, err)
	}
	syscall.Kill(pid, syscall.SIGHUP)
	syscall.Kill(pid, syscall.SIGINT)
	before := w.probe()
	if again, _ := w.pause(); again != pid {
		t.Error("a hang-up ends it")
	}
	w.killPause()
	if after := w.probe(); !after.Joined || after.Mount == "" || before.User == "" {
		t.Errorf("after its death: %+v", after)
	}
}

func TestLaterHostMountsAppear(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can mount on the host")
	}
	w := newWorld(t)
	var st unix.Statfs_t
	target := filepath.Join(filepath.Dir(w.run), "later")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	pid, _ := w.pause()
	info, _ := os.ReadFile("/proc/self/mountinfo")
	if root := bytes.Split(info, []byte("\n")); !bytes.Contains(bytes.Join(rootLines(root), nil), []byte("shared:")) {
		t.Skip("SKIPPED: / is not a shared mount here")
	}
	if err := unix.Mount("moss-later", target, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", pid, target), &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("the mount is not seen inside: type %x, %v", st.Type, err)
	}
}

func rootLines(lines [][]byte) (out [][]byte) {
	for _, line := range lines {
		if f := bytes.Fields(line); len(f) > 4 && string(f[4]) == "/" {
			out = append(out, line)
		}
	}
	return out
}

func TestDeadPauseIsRevivedWhereContainersRun(t *testing.T) {
	w := newWorld(t)
	stay, at := w.stay()
	w.killPause()
	w.writeLive("Monitor", stay.Process.Pid)

	got := w.probe()
	if got.User != at.User || got.Mount != at.Mount || !got.Joined {
		t.Errorf("joined %s %s, the container runs in %s %s", got.User, got.Mount, at.User, at.Mount)
	}
	if again := w.probe(); again.User != at.User {
		t.Error("the next one is elsewhere")
	}

	// Without the monitor, the container's process still leads to the user namespace.
	w.killPause()
	w.writeLive("PID", stay.Process.Pid)
	if got := w.probe(); got.User != at.User || got.Mount == at.Mount {
		t.Errorf("joined %s %s, the container runs in %s %s", got.User, got.Mount, at.User, at.Mount)
	}
}

// stay starts a probe that stays inside until the test ends.
func (w *world) stay() (*exec.Cmd, place) {
	w.t.Helper()
	cmd := w.command("stay")
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { in.Close(); cmd.Wait() })
	var p place
	if err := json.NewDecoder(out).Decode(&p); err != nil {
		w.t.Fatal(err)
	}
	return cmd, p
}

func (w *world) writeLive(key string, pid int) {
	w.t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		w.t.Fatal(err)
	}
	start := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19]
	dir := filepath.Join(w.run, "c", "0123456789ab")
	text := fmt.Sprintf(`{"%s":%d,"%sStart":%s}`, key, pid, key, start)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "live.json"), []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

func TestTouchedFilesKeepThePause(t *testing.T) {
	w := newWorld(t)
	pid, line := w.pause()
	w.rewrite(3, "12345") // another mtime of /etc/subuid, the same ranges
	if p := w.probe(); !p.Joined {
		t.Errorf("%+v", p)
	}
	if again, mended := w.pause(); again != pid || mended != line {
		t.Errorf("was %q, is %q", line, mended)
	}
}

func TestOlderProtocolIsReplacedUnlessUsed(t *testing.T) {
	w := newWorld(t)
	pid, line := w.pause()
	stay, at := w.stay()
	w.rewrite(0, "0")
	if p := w.probe(); p.User != at.User {
		t.Error("containers cannot be reached any more")
	}
	if again, mended := w.pause(); again != pid || mended != line {
		t.Errorf("was %q, is %q", line, mended)
	}

	stay.Process.Kill()
	stay.Process.Wait()
	w.rewrite(0, "0")
	if p := w.probe(); !p.Joined {
		t.Errorf("%+v", p)
	}
	if again, _ := w.pause(); again == pid {
		t.Error("it is not replaced")
	}
	// It may wait for init to reap it.
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if bytes.Contains(stat, []byte("(moss-pause)")) && !bytes.Contains(stat, []byte("(moss-pause) Z")) {
		t.Errorf("the old one still runs: %s", stat)
	}
}

func TestForeignPauseFileIsNotTrusted(t *testing.T) {
	w := newWorld(t)
	w.rewrite(2, "1") // another start time: the PID is someone else's now
	pid, _ := w.pause()
	if p := w.probe(); !p.Joined {
		t.Errorf("%+v", p)
	}
	if again, _ := w.pause(); again == pid {
		t.Error("a process with another start time was joined")
	}
	syscall.Kill(pid, syscall.SIGKILL)

	path := filepath.Join(w.run, "pause")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if p := w.probe(); !p.Joined {
		t.Errorf("%+v", p)
	}
}

func TestMissingDirectoryEndsInRoot(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(filepath.Dir(w.run), "gone")
	os.Mkdir(dir, 0o755)
	cmd := exec.Command("/bin/sh", "-c", `cd "$1" && rmdir "$1" && exec "$2" probe`, "sh", dir, w.self)
	base := w.command()
	cmd.Env, cmd.SysProcAttr = base.Env, base.SysProcAttr
	if w.cred != nil {
		os.Chown(filepath.Dir(w.run), unknownUser, unknownUser)
	}
	if p := w.output(cmd); !p.LostDir || p.Dir != "/" {
		t.Errorf("%+v", p)
	}
}

func TestHostVerbsStayOutside(t *testing.T) {
	w := newWorld(t)
	cmd := w.command("probe")
	cmd.Env = append(cmd.Env, "_MOSS_HOST=1")
	if p := w.output(cmd); p.Joined {
		t.Error("_MOSS_HOST=1 joins")
	}
	if p := w.output(w.command("version")); p.Joined {
		t.Error("version joins")
	}
}

func TestRunRootBeforeTheVerb(t *testing.T) {
	w := newWorld(t)
	cmd := w.command()
	cmd.Args = []string{"moss", "--log-level=debug", "--runroot=" + w.run, "ps"}
	cmd.Env = append(cmd.Env, "MOSS_RUN=/nonexistent", "MOSS_PROBE=1")
	if p := w.output(cmd); !p.Joined {
		t.Errorf("%+v", p)
	}
}

func TestGoAndCSkipTheSame(t *testing.T) {
	for _, line := range []string{
		"", "run", "version", "help", "completion bash", "doctor", "config", "--help", "-h", "--version", "-v",
		"--log-level debug version", "--log-level version run", "--log-level=debug run", "run version", "run --help",
		"--root /x ps", "--root version ps", "--runroot /x version", "man /tmp", "unshare id", "image scp x", "image ls", "image", "--volumepath /x version", "-- version", "--", "ps --version", "--log-level",
	} {
		args := append([]string{"moss"}, strings.Fields(line)...)
		if skips(args) == userns.Needed(args) {
			t.Errorf("%q: C skips: %v, Go needs: %v", line, skips(args), userns.Needed(args))
		}
	}
	if protocol != userns.Protocol {
		t.Errorf("C speaks protocol %d, Go %d", protocol, userns.Protocol)
	}
}

func TestJoinForks(t *testing.T) {
	w := newWorld(t)
	pid, _ := w.pause()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	target := os.NewFile(uintptr(pidfd), "pidfd")
	defer target.Close()
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()

	cmd := w.command("probe")
	cmd.Env = append(cmd.Env, fmt.Sprintf("_MOSS_JOIN=3:%x:cwd:fork:4", unix.CLONE_NEWUSER|unix.CLONE_NEWNS))
	cmd.ExtraFiles = []*os.File{target, wr}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wr.Close()
	r.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 5)
	n, err := r.Read(buf)
	if err != nil || n != 4 {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	child := int(int32(buf[0]) | int32(buf[1])<<8 | int32(buf[2])<<16 | int32(buf[3])<<24)
	// Ours to reap, because of CLONE_PARENT.
	var status unix.WaitStatus
	if got, err := unix.Wait4(child, &status, 0, nil); err != nil || got != child || status.ExitStatus() != 0 {
		t.Errorf("wait: %d, %v, status %v", got, err, status)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	var p place
	if err := json.Unmarshal(out.Bytes(), &p); err != nil || !p.Joined || len(p.leaks()) > 0 || p.Env != nil || p.Dir != "/tmp" {
		t.Errorf("%q, %v", out.Bytes(), err)
	}
	if n, err := r.Read(buf); n != 0 || err == nil {
		t.Error("the descriptor of the PID stays open in the child")
	}
}

func TestFailedJoinIsFatal(t *testing.T) {
	w := newWorld(t)
	for value, want := range map[string]string{
		"99:10020000":  "cannot join the namespaces",
		"x":            "cannot read _MOSS_JOIN",
		"3:20000:blah": "cannot read _MOSS_JOIN",
	} {
		cmd := w.command("probe")
		cmd.Env = append(cmd.Env, "_MOSS_JOIN="+value)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 125 || !strings.Contains(string(out), want) {
			t.Errorf("_MOSS_JOIN=%s: %v, %q", value, err, out)
		}
	}
}
