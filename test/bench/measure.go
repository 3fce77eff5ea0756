package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// side is one of the two programs that a row compares.
type side struct {
	name string
	// before, timed and after are called with the number of the pair. Only timed
	// counts. A side that cannot be had returns an error from its first call.
	before, timed, after func(i int) error
	// value measures something other than time, in place of timed.
	value func(i int) (float64, error)
}

// row is one line of the table.
type row struct {
	name          string
	unit          string // "ms" when empty
	must, stretch float64
	pairs         int // 0: the bench's
	moss, other   side
}

type result struct {
	row         row
	moss, other []float64
	err         error
}

// measure runs the pairs, the one first that was second before.
func (r row) measure(b *bench) result {
	res := result{row: r}
	n := r.pairs
	if n == 0 {
		n = b.pairs
	}
	// The first pair warms up, and does not count.
	for i := range n + 1 {
		order := []*side{&r.moss, &r.other}
		into := []*[]float64{&res.moss, &res.other}
		if i%2 == 1 {
			slices.Reverse(order)
			slices.Reverse(into)
		}
		for j, s := range order {
			if s.name == "" {
				continue
			}
			v, err := s.sample(i)
			if err != nil {
				res.err = fmt.Errorf("%s: %w", s.name, err)
				return res
			}
			if i > 0 {
				*into[j] = append(*into[j], v)
			}
		}
	}
	return res
}

// rest is a moment before each measurement, in which the kernel takes down what the
// one before has left: namespaces, mostly, which take it tens of milliseconds.
const rest = 100 * time.Millisecond

func (s *side) sample(i int) (v float64, err error) {
	if s.before != nil {
		if err := s.before(i); err != nil {
			return 0, err
		}
	}
	if s.value != nil {
		v, err = s.value(i)
	} else {
		// Whoever waits for the disk is not to wait for what the one before has written.
		unix.Sync()
		time.Sleep(rest)
		start := time.Now()
		err = s.timed(i)
		v = float64(time.Since(start).Nanoseconds()) / 1e6
	}
	if err == nil && s.after != nil {
		err = s.after(i)
	}
	return v, err
}

// spawn runs a program to its end; what it prints is shown only if it fails.
func (b *bench) spawn(args ...string) error {
	_, err := b.output(args...)
	return err
}

func (b *bench) output(args ...string) (string, error) {
	var out strings.Builder
	path, err := b.look(args[0])
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Env, cmd.Dir = b.env, b.dir
	// A file, not a pipe: what stays running may hold it. In memory, since this is
	// timed too.
	memory, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(memory), "output")
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	err = cmd.Run()
	f.Seek(0, io.SeekStart)
	text, _ := io.ReadAll(f)
	out.Write(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// command is a side's function that runs one command; {} becomes the pair's number.
func (b *bench) command(args ...string) func(int) error {
	return func(i int) error {
		each := slices.Clone(args)
		for j := range each {
			each[j] = strings.ReplaceAll(each[j], "{}", fmt.Sprint(i))
		}
		return b.spawn(each...)
	}
}

// peak is the peak RSS of a command in KiB, measured by the small program box: a
// child's peak begins with that of the process that made it.
func (b *bench) peak(args ...string) func(int) (float64, error) {
	return func(int) (float64, error) {
		out, err := b.output(append([]string{"box", "measure"}, args...)...)
		if err != nil {
			return 0, err
		}
		var ms, kib float64
		last := out[strings.LastIndexByte(out, '\n')+1:]
		if _, err := fmt.Sscanf(last, "measured %f ms %f KiB", &ms, &kib); err != nil {
			return 0, fmt.Errorf("cannot read %q: %w", last, err)
		}
		return kib, nil
	}
}

// private is the private memory (USS) of all processes of that name, in KiB, over
// their number. The command name of a process holds 15 bytes; see proc(5).
func private(name string) (float64, error) {
	var sum, n float64
	for _, pid := range processes() {
		comm, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil || strings.TrimSpace(string(comm)) != name[:min(15, len(name))] {
			continue
		}
		text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
		if err != nil || len(text) == 0 {
			continue // someone else's
		}
		for line := range strings.Lines(string(text)) {
			var kib float64
			if key, value, _ := strings.Cut(line, ":"); strings.HasPrefix(key, "Private_") {
				fmt.Sscan(value, &kib)
				sum += kib
			}
		}
		n++
	}
	if n == 0 {
		return 0, fmt.Errorf("no process %q", name)
	}
	return sum / n, nil
}

// processes are the PIDs of the user's processes and of those in the user's
// containers: of everyone, but root and the system's accounts.
func processes() []string {
	entries, _ := os.ReadDir("/proc")
	var pids []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.Name()[0] < '0' || e.Name()[0] > '9' {
			continue
		}
		uid := int(info.Sys().(*syscall.Stat_t).Uid)
		if uid == os.Getuid() || uid >= 100000 {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

// ratio is the median of the pairs' own ratios: the mood of the machine at that
// moment is in both.
func (r result) ratio() float64 {
	var v []float64
	for i := range min(len(r.moss), len(r.other)) {
		if r.other[i] > 0 {
			v = append(v, r.moss[i]/r.other[i])
		}
	}
	return median(v)
}

// verdict is stretch, must, missed, or nothing when there is no target.
func (r result) verdict() string {
	value := r.ratio()
	if r.row.other.name == "" {
		value = median(r.moss)
	}
	switch {
	case r.err != nil:
		return "not measured"
	case r.row.must < 0:
		return ""
	case value <= r.row.stretch:
		return "stretch"
	case value <= r.row.must:
		return "must"
	}
	return "missed"
}

// spread is a median with its unit and the smallest value.
func (r result) spread(v []float64) string {
	if len(v) == 0 {
		return ""
	}
	unit := r.row.unit
	if unit == "" {
		unit = "ms"
	}
	return fmt.Sprintf("%s %s (%s)", short(median(v)), unit, short(slices.Min(v)))
}

func short(v float64) string {
	if v >= 100 || v == float64(int(v)) {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.1f", v)
}

func target(v float64, absolute bool) string {
	switch {
	case v < 0:
		return ""
	case absolute:
		return short(v)
	}
	return fmt.Sprintf("≤ %.2f", v)
}

// tableRow is the result as a line of Markdown.
func (r result) tableRow() string {
	absolute := r.row.other.name == ""
	if r.err != nil {
		cause, _, _ := strings.Cut(r.err.Error(), "\n")
		return fmt.Sprintf("| %s | | | | %s | %s | not measured: %s |", r.row.name, target(r.row.must, absolute), target(r.row.stretch, absolute), cause)
	}
	beside, ratio := "", ""
	if !absolute {
		beside, ratio = r.row.other.name+" "+r.spread(r.other), fmt.Sprintf("%.3f", r.ratio())
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", r.row.name, r.spread(r.moss), beside, ratio,
		target(r.row.must, absolute), target(r.row.stretch, absolute), r.verdict())
}

func (r result) line() string {
	if r.err != nil {
		return fmt.Sprintf("%-46s not measured: %v", r.row.name, r.err)
	}
	if r.row.other.name == "" {
		return fmt.Sprintf("%-46s %18s  %s", r.row.name, r.spread(r.moss), r.verdict())
	}
	return fmt.Sprintf("%-46s %18s  %-8s %18s  %.3f  %s", r.row.name, r.spread(r.moss), r.row.other.name, r.spread(r.other), r.ratio(), r.verdict())
}
