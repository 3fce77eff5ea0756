package rootless

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeMoss is a program that behaves as moss does where everything works, but
// for one verb.
func fakeMoss(t *testing.T, broken string) string {
	t.Helper()
	const script = `#!/bin/sh
echo "$@" >>%[1]s/calls
if [ "$1" = "%[2]s" ] && ! echo "$@" | grep -q "%[3]s"; then
	echo 'moss: cannot do it: the moon is full' >&2
	echo 'hint: sudo wait a week' >&2
	exit 125
fi
case "$1" in
unshare) shift; exec unshare -Urm "$@" ;;
run) case "$*" in
	*hello) echo 'hello from a test'; echo more ;;
	*resolve*) echo 10.9.8.7 ;;
	*serve*) echo serving 8080; exec sleep 60 ;;
	esac ;;
port) cat %[1]s/port ;;
rm) ;;
*) exit 3 ;;
esac
`
	dir := t.TempDir()
	verb, except, _ := strings.Cut(broken, "!")
	if except == "" {
		except = "nothing at all"
	}
	path := filepath.Join(dir, "moss")
	if err := os.WriteFile(path, fmt.Appendf(nil, script, dir, verb, except), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func doctorCheck(t *testing.T, checks []Check, name string) Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return Check{}
}

// someDoctor does some of the checks with a fake moss.
func someDoctor(t *testing.T, program string, names ...string) []Check {
	t.Helper()
	d := &doctor{ctx: t.Context(), failed: map[string]bool{}, container: "moss-doctor-test"}
	d.Program, d.Timeout = program, 10*time.Second
	d.dirs.Root, d.dirs.Run = t.TempDir(), t.TempDir()
	var checks []Check
	for _, try := range doctorTries(nil) {
		for _, name := range names {
			if try.name == name {
				c := d.do(try)
				d.failed[try.name] = !c.OK && c.Needed
				checks = append(checks, c)
			}
		}
	}
	return checks
}

// TestDoctorCauses: a failure is told once, with moss's own words and hint; what
// depends on it is not tried, and the rest is.
func TestDoctorCauses(t *testing.T) {
	checks := someDoctor(t, fakeMoss(t, "run"), tryContainer, "resolve a name on the network", "publish a port on the network", "seccomp")
	c := doctorCheck(t, checks, tryContainer)
	if c.OK || c.Cause != "cannot do it: the moon is full" || c.Fix != "sudo wait a week" {
		t.Errorf("got %+v", c)
	}
	c = doctorCheck(t, checks, "resolve a name on the network")
	if c.OK || c.Needed || !strings.Contains(c.Cause, `not tried, because "run a container" failed`) {
		t.Errorf("got %+v", c)
	}
	if c = doctorCheck(t, checks, "seccomp"); !c.OK {
		t.Errorf("got %+v", c)
	}
	if Healthy(checks) {
		t.Error("healthy although nothing runs")
	}
}

// TestDoctorContainers: with a moss that works everything is right, and the
// containers are removed.
func TestDoctorContainers(t *testing.T) {
	program := fakeMoss(t, "")
	port, stop := serveOnce(t)
	defer stop()
	if err := os.WriteFile(filepath.Join(filepath.Dir(program), "port"), []byte(port+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checks := someDoctor(t, program, tryContainer, "resolve a name on the network", "publish a port on the network")
	for _, c := range checks {
		if !c.OK {
			t.Errorf("got %+v", c)
		}
	}
	if !Healthy(checks) {
		t.Error("not healthy")
	}
	calls, _ := os.ReadFile(filepath.Join(filepath.Dir(program), "calls"))
	if n := strings.Count(string(calls), "rm --force"); n != 3 {
		t.Errorf("removed %d containers, want 3:\n%s", n, calls)
	}
}

// TestDoctorTimeout: a moss that hangs is not waited for.
func TestDoctorTimeout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "moss")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := &doctor{ctx: t.Context()}
	d.Program, d.Timeout = path, 100*time.Millisecond
	start := time.Now()
	c := d.do(try{name: "x", needed: true, run: doctorEnter})
	if c.OK || !strings.Contains(c.Cause, "more than 100ms") || time.Since(start) > 5*time.Second {
		t.Errorf("got %+v after %v", c, time.Since(start))
	}
}

// TestDoctorHost: the checks of the host say what they found; which of them fail
// depends on the machine, but then there is a cause.
func TestDoctorHost(t *testing.T) {
	checks := someDoctor(t, fakeMoss(t, ""), "kernel", tryDirs, "disk space", tryEnter, "overlay", "seccomp", "network device",
		"newuidmap and newgidmap", "limits", "run after logout", "ports below 1024", "ping")
	for _, c := range checks {
		t.Logf("%+v", c)
		if !c.OK && c.Cause == "" {
			t.Errorf("%s failed without a cause", c.Name)
		}
	}
	if c := doctorCheck(t, checks, "kernel"); !c.OK || c.Detail == "" {
		t.Errorf("got %+v", c)
	}
}

// serveOnce is a web server that answers with its client's address.
func serveOnce(t *testing.T) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\n\r\n%s", conn.RemoteAddr())
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	return l.Addr().String(), func() { l.Close() }
}
