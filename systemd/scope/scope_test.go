package scope

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestConversation: the greeting and all questions go out at once; answers, refusals and
// news are told apart, wherever the stream is cut.
func TestConversation(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	c := &Conn{FD: pair[0]}
	defer c.Close()

	said := []byte("OK 0123456789abcdef\r\n")
	said = append(said, message(methodReturn, 1, "", "", "o", func(w *writer) { w.text("/job/7") })...)
	said = append(said, message(failure, 2, "", "org.freedesktop.systemd1.UnitExists", "s", func(w *writer) { w.text("it is there") })...)
	said = append(said, message(methodReturn, 3, "", "", "v", func(w *writer) { w.signature("s"); w.text("stopping") })...)
	said = append(said, message(signal, 0, "UnitNew", "", "so", func(w *writer) { w.text("x"); w.text("/y") })...)
	said = append(said, message(signal, 0, "JobRemoved", "", "uoss", func(w *writer) {
		w.number(7)
		w.text("/job/7")
		w.text("moss-1.scope")
		w.text("done")
	})...)
	var got []Message
	for i := range said {
		if _, err := unix.Write(pair[1], said[i:i+1]); err != nil {
			t.Fatal(err)
		}
		m, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		if m != nil {
			got = append(got, *m)
		}
	}
	if len(got) != 4 || got[0].To != 1 || got[0].Job != "/job/7" || got[1].To != 2 || !got[1].Err.Exists() || got[1].Err.Text != "it is there" ||
		got[2] != (Message{To: 3, Text: Stopping}) || got[3] != (Message{Job: "/job/7", Unit: "moss-1.scope", Result: "done"}) {
		t.Errorf("got %+v", got)
	}
	if m, err := c.Await(time.Now().Add(10 * time.Millisecond)); m != nil || err == nil {
		t.Errorf("nothing more was said: %+v, %v", m, err)
	}
}

// message is what a manager would say.
func message(kind byte, to uint32, member, name, signature string, fill func(*writer)) []byte {
	var body writer
	fill(&body)
	w := writer{out: []byte{'l', kind, 0, 1}}
	w.number(uint32(len(body.out)))
	w.number(99)
	w.array(8, func() {
		field := func(code byte, kind string, write func()) {
			w.align(8)
			w.out = append(w.out, code)
			w.signature(kind)
			write()
		}
		if to > 0 {
			field(fieldReplySerial, "u", func() { w.number(to) })
		}
		if member != "" {
			field(fieldMember, "s", func() { w.text(member) })
		}
		if name != "" {
			field(fieldErrorName, "s", func() { w.text(name) })
		}
		field(fieldSignature, "g", func() { w.signature(signature) })
	})
	w.align(8)
	return append(w.out, body.out...)
}

// Nonsense from the other side is an error, or nothing, and no panic.
func TestNonsense(t *testing.T) {
	good := message(signal, 0, "JobRemoved", "", "uoss", func(w *writer) { w.number(7); w.text("/job/7"); w.text("u"); w.text("done") })
	for i := range good {
		for _, b := range []byte{0, 1, 0x7f, 0xff} {
			bad := slices.Clone(good)
			bad[i] = b
			if size, err := messageSize(bad); err == nil && size > 0 && size <= len(bad) {
				decode(bad[:size])
			}
		}
	}
}

// TestLimits: the manager is told of each limit in its own words, or it would put back its
// own.
func TestLimits(t *testing.T) {
	var w writer
	properties{&w}.limits(map[string]string{
		"memory.max": "67108864", "memory.swap.max": "max", "pids.max": "2048", "cpu.max": "50000 200000", "cpu.weight": "39",
		"cpuset.cpus": "0-1,9", "io.max": "8:0 rbps=1024\n8:16 rbps=max wiops=7", "memory.oom.group": "1",
	}, true)
	at := func(name string, values ...uint64) {
		t.Helper()
		_, rest, ok := bytes.Cut(w.out, append([]byte(name), 0))
		if !ok {
			t.Errorf("%s is not there", name)
			return
		}
		for _, v := range values {
			if !bytes.Contains(rest[:min(len(rest), 140)], binary.LittleEndian.AppendUint64(nil, v)) {
				t.Errorf("%s is not %d: %q", name, v, rest[:min(len(rest), 140)])
			}
		}
	}
	at("MemoryMax", 67108864)
	at("MemorySwapMax", math.MaxUint64)
	at("TasksMax", 2048)
	at("CPUQuotaPerSecUSec", 250000)
	at("CPUQuotaPeriodUSec", 200000)
	at("CPUWeight", 39)
	at("IOReadBandwidthMax", 1024, math.MaxUint64)
	at("IOWriteIOPSMax", 7)
	if !strings.Contains(string(w.out), "/dev/block/8:16") || strings.Contains(string(w.out), "oom") {
		t.Errorf("got %q", w.out)
	}
	if got := mask("0-1,9"); !bytes.Equal(got, []byte{3, 2}) {
		t.Errorf("mask %v", got)
	}
	w = writer{}
	properties{&w}.limits(nil, true)
	at("TasksMax", math.MaxUint64)
}

// A removal is seen when it happens, also where the kernel tells only who watches above.
func TestAwaitRemoval(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "moss-0.scope")
	AwaitRemoval(dir, time.Minute) // it is gone
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if began := time.Now(); true {
		AwaitRemoval(dir, 50*time.Millisecond)
		if took := time.Since(began); took < 50*time.Millisecond {
			t.Errorf("given up after %v", took)
		}
	}
	time.AfterFunc(20*time.Millisecond, func() { os.Remove(dir) })
	began := time.Now()
	AwaitRemoval(dir, time.Minute)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the removal was seen after %v", took)
	}
}
