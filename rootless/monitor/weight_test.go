package monitor_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moss/rootless/container"
	"moss/rootless/monitor/client"
)

// buildMonitor builds the program as the Makefile does.
func buildMonitor(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "moss-monitor")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "moss/cmd/moss-monitor")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Skipf("cannot build moss-monitor here: %v: %s", err, out)
	}
	return program
}

// uss is a process's private memory in KiB.
func uss(t testing.TB, pid int) (total int) {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var n int
		if rest, ok := strings.CutPrefix(line, "Private_"); ok {
			_, value, _ := strings.Cut(rest, ":")
			fmt.Sscan(value, &n)
			total += n
		}
	}
	return total
}

// maxIdle is what a resting monitor may hold of its own, in KiB: twice conmon's.
const maxIdle = 678

// A resting monitor is small, among others and alone, with a terminal and
// without, also after it had much to do.
func TestIdleMemory(t *testing.T) {
	program := buildMonitor(t)
	companion := newBox(t, "exec sleep 100") // shares what can be shared
	companion.program = program
	companion.start().Close()
	for _, c := range []struct {
		name string
		tty  bool
		busy string
		rest time.Duration
	}{
		{"pipes", false, "", 2 * time.Second},
		{"terminal", true, "", 2 * time.Second},
		{"busy", false, "seq 100000", 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBox(t, c.busy+"\nexec sleep 100")
			b.program, b.cfg.TTY = program, c.tty
			conn := b.spawn()
			if err := conn.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			live, _ := container.ReadLive(b.cfg.RunDir)
			before := uss(t, live.Monitor)
			conn.Close()
			time.Sleep(c.rest)
			after := uss(t, live.Monitor)
			t.Logf("%d KiB at the start, %d KiB at rest", before, after)
			if after > maxIdle {
				t.Errorf("%d KiB, more than %d", after, maxIdle)
			}
		})
	}
}

// What a start costs beyond the init stage; and the whole run with its end.
func BenchmarkStart(b *testing.B) {
	program := buildMonitor(b)
	box := newBox(b, "")
	box.program, box.doc.Args = program, []string{"true"}
	var start, end time.Duration
	for b.Loop() {
		t0 := time.Now()
		conn := box.spawn()
		if err := conn.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		box.pump(conn, client.Streams{})
		start, end = start+t1.Sub(t0), end+time.Since(t1)
		conn.Close()
	}
	b.ReportMetric(float64(start.Microseconds())/float64(b.N), "µs-to-started")
	b.ReportMetric(float64(end.Microseconds())/float64(b.N), "µs-to-exited")
}
