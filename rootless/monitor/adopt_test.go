package monitor

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moss/systemd/scope"
)

// fakeManager is a service manager that answers the first question with a property, or with
// nothing, and keeps what it has heard.
type fakeManager struct {
	socket string
	heard  chan string
}

func newFakeManager(t *testing.T, answer string) *fakeManager {
	t.Helper()
	f := &fakeManager{filepath.Join(t.TempDir(), "private"), make(chan string, 1)}
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * time.Second))
		var heard []byte
		for buf := make([]byte, 4096); ; {
			n, err := c.Read(buf)
			heard = append(heard, buf[:n]...)
			if bytes.Contains(heard, []byte("StopUnit")) {
				c.Write([]byte("OK 0\r\nl\x02\x00\x01\x00\x00\x00\x00\x09\x00\x00\x00\x08\x00\x00\x00\x05\x01u\x00\x01\x00\x00\x00"))
			}
			if answer != "" && bytes.Contains(heard, []byte("SystemState")) {
				c.Write(property(answer))
				answer = ""
			}
			if err != nil {
				f.heard <- string(heard)
				return
			}
		}
	}()
	return f
}

// property answers the question with the serial 1: D-Bus specification, "Message Format".
func property(value string) []byte {
	text := append(binary.LittleEndian.AppendUint32([]byte{1, 's', 0, 0}, uint32(len(value))), value+"\x00"...)
	out := binary.LittleEndian.AppendUint32([]byte("OK 0\r\nl\x02\x00\x01"), uint32(len(text)))
	out = append(out, 9, 0, 0, 0, 15, 0, 0, 0)
	out = append(out, 5, 1, 'u', 0, 1, 0, 0, 0, 8, 1, 'g', 0, 1, 'v', 0, 0)
	return append(out, text...)
}

// A SIGTERM at the end of a run was for the session if the manager ends, or has ended.
func TestSessionOver(t *testing.T) {
	for _, c := range []struct {
		state string
		want  bool
	}{{"running", false}, {"degraded", false}, {"stopping", true}, {"", true}} {
		socket := filepath.Join(t.TempDir(), "none")
		if c.state != "" {
			socket = newFakeManager(t, c.state).socket
		}
		m := &monitor{cfg: &Config{Scope: &Scope{Socket: socket}}}
		if m.sessionOver() {
			t.Errorf("%q: over without a SIGTERM", c.state)
		}
		if m.adoption.asked = true; m.sessionOver() != c.want {
			t.Errorf("%q: over: %t", c.state, !c.want)
		}
		if m.adoption.asked {
			t.Errorf("%q: the SIGTERM is not forgotten", c.state)
		}
	}
}

// The SIGTERM of the unit that the monitor has left comes late: before the next run it ends nothing, but where the session ends.
func TestLateSigterm(t *testing.T) {
	for state, want := range map[string]bool{"running": false, "stopping": true} {
		next := time.Now().Add(time.Hour)
		m := &monitor{cfg: &Config{Scope: &Scope{Socket: newFakeManager(t, state).socket}}, ended: true, restartAt: next}
		m.adoption.left = true
		if m.endSession(); m.session != want || m.restartAt.Before(next) != want {
			t.Errorf("%s: the session is over: %t, the next run is at %v", state, m.session, m.restartAt)
		}
		if m.endSession(); !m.session {
			t.Errorf("%s: a second SIGTERM is not heeded", state)
		}
	}
}

// The cgroup of a container that ends while the manager is asked to take it over is removed,
// whatever becomes of that; and the unit is stopped where the manager would not see its end.
func TestEndedWhileAdopted(t *testing.T) {
	const unit = "moss-0.scope"
	refused := func(name string) func(m *monitor) {
		return func(m *monitor) {
			m.hearAdoption(&scope.Message{To: m.adoption.unit.call, Err: &scope.Error{Name: name}})
		}
	}
	for name, c := range map[string]struct {
		end          func(m *monitor)
		stays, stops bool
	}{
		"its process is gone": {refused("org.freedesktop.DBus.Error.UnixProcessIdUnknown"), false, false},
		"there is an old one": {refused("org.freedesktop.systemd1.UnitExists"), false, true},
		"it hangs up":         {func(m *monitor) { m.endAdoption() }, false, false},
		"no patience is left": {func(m *monitor) { m.lookAfterAdoption(m.adoption.until) }, false, false},
		"it agrees, and hangs up": {func(m *monitor) {
			m.hearAdoption(&scope.Message{To: 1, Job: "/job/1"})
			m.endAdoption()
		}, false, true},
		"it fails": {func(m *monitor) {
			m.hearAdoption(&scope.Message{To: 1, Job: "/job/1"})
			m.hearAdoption(&scope.Message{Job: "/job/1", Unit: unit, Result: "failed"})
		}, false, false},
		"it has taken over": {func(m *monitor) {
			m.hearAdoption(&scope.Message{To: 1, Job: "/job/1"})
			m.hearAdoption(&scope.Message{Job: "/job/1", Unit: unit, Result: "done"})
		}, true, true},
	} {
		manager := newFakeManager(t, "")
		loop, err := newLoop()
		if err != nil {
			t.Fatal(err)
		}
		m := &monitor{loop: loop, group: group(filepath.Join(t.TempDir(), unit)), cfg: &Config{ID: "0", Scope: &Scope{Socket: manager.socket}}}
		if err := os.Mkdir(string(m.group), 0o700); err != nil {
			t.Fatal(err)
		}
		other := newFakeManager(t, "") // whom the conversation is with
		if m.adoption.conn, err = scope.Dial(other.socket, 0); err != nil {
			t.Fatal(err)
		}
		m.adoption.unit.call, m.adoption.until = 1, time.Now().Add(time.Hour)
		m.ended, m.finished = true, true
		if err := m.leaveCgroup(); err != nil {
			t.Fatal(err)
		}
		c.end(m)
		if m.adoption.conn != nil {
			t.Errorf("%s: the conversation goes on", name)
		}
		if _, err := os.Stat(string(m.group)); (err == nil) != c.stays {
			t.Errorf("%s: the cgroup: %v", name, err)
		}
		if m.adoption.stale {
			t.Errorf("%s: the unit is left", name)
		}
		if c.stops {
			if heard := <-manager.heard; !strings.Contains(heard, "StopUnit") {
				t.Errorf("%s: the manager is told %q", name, heard)
			}
		} else if conn, err := net.Dial("unix", manager.socket); err != nil {
			t.Error(err)
		} else if conn.Close(); strings.Contains(<-manager.heard, "StopUnit") {
			t.Errorf("%s: the manager is told to stop what there is not", name)
		}
	}
}

// Where the manager answers late, another run may have the cgroup by then: it is left alone.
func TestEndedLate(t *testing.T) {
	loop, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{loop: loop, group: group(t.TempDir()), cfg: &Config{ID: "0"}, ended: true}
	kill := filepath.Join(string(m.group), "cgroup.kill") // which makes the directory one that cannot be removed, too
	if err := os.WriteFile(kill, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if m.adoption.conn, err = scope.Dial(newFakeManager(t, "").socket, 0); err != nil {
		t.Fatal(err)
	}
	m.endAdoption()
	if said, err := os.ReadFile(kill); err != nil || len(said) > 0 {
		t.Errorf("who is there is killed: %q, %v", said, err)
	}
}

// Jobs of others are not taken for those that make the units of this run.
func TestForeignJobs(t *testing.T) {
	loop, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{loop: loop, cfg: &Config{ID: "0"}, pidfd: -1}
	a := &m.adoption
	if a.conn, err = scope.Dial(newFakeManager(t, "").socket, 0); err != nil {
		t.Fatal(err)
	}
	a.unit.call, a.monitor.call, a.own, a.tried = 1, 2, true, 1
	for i, said := range []scope.Message{
		{To: 1, Job: "/job/8"},
		{Job: "/job/7", Unit: "moss-monitor-0.scope", Result: "done"}, // the stop of the old one
		{Job: "/job/6", Unit: "moss-0.scope", Result: "done"},
		{To: 2, Err: &scope.Error{Name: "org.freedesktop.systemd1.UnitExists"}},
	} {
		if m.hearAdoption(&said); a.conn == nil || a.adopted {
			t.Fatalf("after %d: over %t, adopted %t", i, a.conn == nil, a.adopted)
		}
	}
	if a.own || a.next.IsZero() {
		t.Error("no other try for the monitor's unit")
	}
	if m.hearAdoption(&scope.Message{Job: "/job/8", Unit: "moss-0.scope", Result: "done"}); a.conn != nil || !a.adopted || a.stale {
		t.Errorf("over %t, adopted %t, stale %t", a.conn == nil, a.adopted, a.stale)
	}
}
