package rootless

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/userns"
)

// TestTopColumns: descriptors of every form, and clear errors for others.
func TestTopColumns(t *testing.T) {
	for arguments, want := range map[string]string{
		"":               "USER PID PPID %CPU ELAPSED TTY TIME COMMAND",
		"pid user":       "PID USER",
		"pid,user ppid":  "PID USER PPID",
		"%p %U %a":       "PID USER COMMAND",
		"-o pid,comm":    "PID COMMAND",
		"-eo pid,comm":   "PID COMMAND",
		"-e -opid":       "PID",
		"aux":            "USER PID %CPU %MEM VSZ RSS TTY STATE STIME TIME COMMAND",
		"-ef":            "UID PID PPID %CPU STIME TTY TIME COMMAND",
		"hpid huser uid": "HPID HUSER UID",
	} {
		columns, err := topColumns(strings.Fields(arguments))
		var headers []string
		for _, column := range columns {
			headers = append(headers, column.header)
		}
		if got := strings.Join(headers, " "); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", arguments, got, err, want)
		}
	}
	for arguments, want := range map[string]string{
		"pid bogus": `unknown descriptor "bogus"`, "-o": "needs a list", "-Z": `unknown option "-Z"`,
	} {
		if _, err := topColumns(strings.Fields(arguments)); err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: got %v, want %q", arguments, err, want)
		}
	}
}

// TestTop: the processes of a PID namespace are shown with its PIDs, those that
// entered it later too, and no others.
func TestTop(t *testing.T) {
	init := exec.Command("sh", "-c", "sleep 611 & sleep 612; :")
	init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 {
		init.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		init.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	if err := init.Start(); err != nil {
		t.Skipf("cannot make a PID namespace: %v", err)
	}
	defer func() { _ = init.Process.Kill(); _ = init.Wait() }()

	c := &container.Container{Dir: t.TempDir(), RunDir: t.TempDir()}
	c.Spec.Name = "web"
	writeLive(t, c, init.Process.Pid)
	var rows [][]string
	for range 100 { // until the shell has started both
		var err error
		if rows, err = (&Engine{}).Top(t.Context(), c, []string{"pid,ppid,user,hpid,state,args"}); err != nil {
			t.Fatal(err)
		}
		if len(rows) == 4 {
			break
		}
	}
	if len(rows) != 4 {
		t.Fatalf("got %q", rows)
	}
	if want := []string{"PID", "PPID", "USER", "HPID", "STATE", "COMMAND"}; !slices.Equal(rows[0], want) {
		t.Errorf("header %q", rows[0])
	}
	if r := rows[1]; r[0] != "1" || r[1] != "0" || r[2] != "root" || r[3] != strconv.Itoa(init.Process.Pid) || !strings.Contains(r[5], "sleep 611") {
		t.Errorf("first process %q", r)
	}
	for i, r := range rows[2:] {
		if r[0] != strconv.Itoa(i+2) || r[1] != "1" || !strings.HasPrefix(r[5], "sleep 61") && !strings.HasPrefix(r[5], "sh") {
			t.Errorf("child %q", r)
		}
	}

	// Every descriptor has a value.
	all, err := (&Engine{}).Top(t.Context(), c, TopDescriptors())
	if err != nil {
		t.Fatal(err)
	}
	for i, header := range all[0] {
		if all[1][i] == "" && header != "GROUPS" && header != "LABEL" {
			t.Errorf("%s is empty", header)
		}
	}
}

// TestTopExited: a container that does not run has no processes.
func TestTopExited(t *testing.T) {
	c := &container.Container{Dir: t.TempDir(), RunDir: t.TempDir()}
	if _, err := (&Engine{}).Top(t.Context(), c, nil); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("got %v", err)
	}
}

// TestTopNames: IDs are named as the container does, through its map.
func TestTopNames(t *testing.T) {
	v := &insideView{
		uids:     []userns.IDMap{{Container: 0, Host: 1, Size: 1000}, {Container: 1000, Host: 0, Size: 1}},
		hostUIDs: []userns.IDMap{{Container: 0, Host: 1000, Size: 1}, {Container: 1, Host: 100000, Size: 65536}},
		users:    map[int]string{0: "root", 1000: "me"}, hostUsers: map[int]string{1000: "ann"},
	}
	for id, want := range map[int][2]string{0: {"me", "ann"}, 1: {"root", "100000"}, 5: {"4", "100004"}, 999999: {"65534", "65534"}} {
		if got := [2]string{v.userName(id), v.hostUserName(id)}; got != want {
			t.Errorf("ID %d is %q, want %q", id, got, want)
		}
	}
}

// TestParseNames: what is no line of a passwd file is passed over.
func TestParseNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passwd")
	if err := os.WriteFile(path, []byte("root:x:0:0::/:/bin/sh\n\n#x\nfirst:x:5:\nsecond:x:5:\nbad:x:y:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	names := namesOf(path)
	if len(names) != 2 || names[0] != "root" || names[5] != "first" {
		t.Errorf("got %v", names)
	}
}

// TestCapabilities and the names of terminals.
func TestCapabilities(t *testing.T) {
	for mask, want := range map[string]string{"0000000000000000": "none", "0000000000000021": "CHOWN,KILL", "x": "?"} {
		if got := capabilities(mask); got != want {
			t.Errorf("%s is %q, want %q", mask, got, want)
		}
	}
	for device, want := range map[int]string{0: "?", 136<<8 + 3: "pts/3", 5<<8 + 1: "console", 4<<8 + 1: "tty1", 4<<8 + 64: "ttyS0"} {
		if got := terminal(device); got != want {
			t.Errorf("%d is %q, want %q", device, got, want)
		}
	}
}

// writeLive makes c look as if it ran under that monitor.
func writeLive(t *testing.T, c *container.Container, pid int) {
	t.Helper()
	start, err := container.StartTime(pid)
	if err == nil {
		err = container.WriteLive(c.RunDir, &container.Live{PID: pid, PIDStart: start, Monitor: pid, MonitorStart: start})
	}
	if err != nil {
		t.Fatal(err)
	}
}
