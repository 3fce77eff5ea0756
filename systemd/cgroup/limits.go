package cgroup

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// DefaultPids is the pids limit of a container for which none was asked.
const DefaultPids = 2048

// Resources are the limits of one container.
type Resources struct {
	Memory            int64 // bytes; 0 is no limit
	MemorySwap        int64 // bytes of memory and swap together; 0: twice Memory, -1: no limit
	MemoryReservation int64 // bytes that it may keep when memory is short
	CPUs              float64
	CPUQuota          int64  // µs in each CPUPeriod, where CPUs is 0; -1: no limit
	CPUPeriod         uint64 // µs; 0 is 100,000
	CPUShares         uint64 // as of cgroup v1: 2 to 262144, 1024 is normal
	CPUSetCPUs        string
	CPUSetMems        string
	Pids              *int64 // in place of DefaultPids
	PidsLimit         *int64 // nil: Pids, else DefaultPids, where delegated; 0 and -1: no limit
	IOWeight          uint16 // as of cgroup v1: 10 to 1000
	IODevices         []IODevice
	Conf              map[string]string // control files and what to write into them, after all else
}

// NotDelegatedError says that a limit was asked for whose controller the
// user's cgroups do not have.
type NotDelegatedError struct {
	Limit      string // what was to be limited: memory, CPU time, …
	Controller string
	// Offered says that the kernel offers the controller on cgroup v2 at all.
	Offered bool
	Manager string
	// Top is the cgroup that is delegated, as /proc/PID/cgroup has it.
	Top string
}

func (e *NotDelegatedError) Error() string {
	if !e.Offered {
		return fmt.Sprintf("cannot limit %s: this machine has no %s controller on cgroup v2", e.Limit, e.Controller)
	}
	return fmt.Sprintf("cannot limit %s: the %s controller is not delegated to you", e.Limit, e.Controller)
}

// Limits are the cgroup files to write, and their values, for a container's
// cgroup below p. A limit that was asked for and cannot be set is an error; a
// default is left out.
func (p *Parent) Limits(r Resources) (map[string]string, error) {
	l := limits{parent: p, have: p.Controllers(), files: map[string]string{}}
	l.memory(r)
	l.cpu(r)
	l.cpuset("cpuset.cpus", "CPUs", r.CPUSetCPUs)
	l.cpuset("cpuset.mems", "memory nodes", r.CPUSetMems)
	l.pids(r)
	l.io(r)
	l.conf(r)
	return l.files, l.err
}

type limits struct {
	parent *Parent
	have   []string
	files  map[string]string
	err    error // the first
}

// need reports whether the controller is there, and fails the limits if not.
func (l *limits) need(controller, limit string) bool {
	if slices.Contains(l.have, controller) {
		return true
	}
	if err := l.parent.Why(); err != nil {
		l.fail(fmt.Errorf("cannot limit %s: %w", limit, err))
		return false
	}
	// It may have been delegated since the cgroup was made.
	if err := l.parent.prepare(); err == nil {
		if l.have = l.parent.Controllers(); slices.Contains(l.have, controller) {
			return true
		}
	}
	// "No internal processes", cgroup-v2.rst: --cgroups split where others live too.
	if procs := words(filepath.Join(l.parent.Dir, "cgroup.procs")); len(procs) > 0 && slices.Contains(words(filepath.Join(l.parent.Dir, "cgroup.controllers")), controller) {
		l.fail(fmt.Errorf("cannot limit %s: cgroup %q holds processes itself (%s), and so hands on no controller", limit, l.parent.Dir, strings.Join(procs, ", ")))
		return false
	}
	l.fail(&NotDelegatedError{
		Limit: limit, Controller: controller, Manager: l.parent.Manager, Top: l.parent.tree.path(l.parent.Top),
		Offered: slices.Contains(l.parent.offered(), controller),
	})
	return false
}

func (l *limits) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// offered are the controllers that the root of the cgroup v2 tree has.
func (p *Parent) offered() []string {
	for dir := p.Top; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(dir), "cgroup.controllers")); err != nil {
			return words(filepath.Join(dir, "cgroup.controllers"))
		}
	}
}

func (l *limits) memory(r Resources) {
	switch {
	case r.Memory < 0:
		l.fail(fmt.Errorf("cannot limit memory to %d bytes: it must be positive", r.Memory))
		return
	case r.Memory == 0 && r.MemorySwap > 0:
		l.fail(errors.New("cannot limit swap: a memory limit must be set too"))
		return
	case r.MemorySwap > 0 && r.MemorySwap < r.Memory:
		l.fail(fmt.Errorf("cannot limit memory and swap to %d bytes: memory alone may be %d", r.MemorySwap, r.Memory))
		return
	case r.MemoryReservation > 0 && r.Memory > 0 && r.MemoryReservation > r.Memory:
		l.fail(fmt.Errorf("cannot reserve %d bytes of memory: the limit is %d", r.MemoryReservation, r.Memory))
		return
	}
	if r.MemoryReservation > 0 && l.need("memory", "memory") {
		l.files["memory.low"] = strconv.FormatInt(r.MemoryReservation, 10)
	}
	// No limit of swap without one of memory.
	if r.Memory == 0 || !l.need("memory", "memory") {
		return
	}
	l.files["memory.max"] = strconv.FormatInt(r.Memory, 10)

	swap := strconv.FormatInt(r.Memory, 10) // as much again
	if r.MemorySwap > 0 {
		swap = strconv.FormatInt(r.MemorySwap-r.Memory, 10)
	} else if r.MemorySwap < 0 {
		swap = "max"
	}
	// Absent where the kernel was built or started without swap accounting.
	if _, err := os.Stat(filepath.Join(l.parent.Dir, "memory.swap.max")); err == nil {
		l.files["memory.swap.max"] = swap
	} else if r.MemorySwap > 0 {
		l.fail(errors.New("cannot limit swap: this kernel does not account it"))
	}
}

// period is the length in µs over which CPU time is counted, as Docker's.
const period = 100_000

func (l *limits) cpu(r Resources) {
	if r.CPUs < 0 || math.IsNaN(r.CPUs) || math.IsInf(r.CPUs, 0) {
		l.fail(fmt.Errorf("cannot limit CPU time to %v CPUs: it must be positive", r.CPUs))
		return
	}
	if r.CPUs > 0 && l.need("cpu", "CPU time") {
		quota := int64(math.Round(r.CPUs * period))
		if quota < 1000 { // the kernel's least: kernel/sched/core.c, min_cfs_quota_period
			l.fail(fmt.Errorf("cannot limit CPU time to %v CPUs: 0.01 is the least", r.CPUs))
			return
		}
		l.files["cpu.max"] = fmt.Sprintf("%d %d", quota, period)
	}
	if r.CPUs == 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0) && l.need("cpu", "CPU time") {
		quota, each := "max", uint64(period)
		if r.CPUQuota > 0 {
			quota = strconv.FormatInt(r.CPUQuota, 10)
		}
		if r.CPUPeriod > 0 {
			each = r.CPUPeriod
		}
		l.files["cpu.max"] = fmt.Sprintf("%s %d", quota, each)
	}
	if r.CPUShares > 0 && l.need("cpu", "CPU shares") {
		l.files["cpu.weight"] = strconv.FormatUint(Weight(r.CPUShares), 10)
	}
}

// Weight turns CPU shares of cgroup v1 (2 to 262144, 1024 is normal) into a
// weight of v2 (1 to 10000, 100 is normal): the quadratic through those three
// points on logarithmic scales that the OCI runtimes agreed on in 2025
// (opencontainers/cgroups, ConvertCPUSharesToCgroupV2Value).
func Weight(shares uint64) uint64 {
	if shares <= 2 {
		return 1
	}
	if shares >= 262144 {
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612.0-7.0/34.0)))
}

// list is the kernel's list format: "0-3,5".
var list = sync.OnceValue(func() *regexp.Regexp { // not at every start of moss
	return regexp.MustCompile(`^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$`)
})

func (l *limits) cpuset(file, noun, value string) {
	if value == "" {
		return
	}
	if !list().MatchString(value) {
		l.fail(fmt.Errorf("cannot limit %s to %q: write a list like 0-3,5", noun, value))
		return
	}
	if !l.need("cpuset", noun) {
		return
	}
	if have := first(filepath.Join(l.parent.Dir, file+".effective")); have != "" && !subset(value, have) {
		l.fail(fmt.Errorf("cannot limit %s to %q: there are %s", noun, value, have))
		return
	}
	l.files[file] = value
}

// first is the first line of a file.
func first(path string) string {
	data, _ := os.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// subset says whether every number of the list a is in the list b.
func subset(a, b string) bool {
	inB := map[int]bool{}
	for _, r := range ranges(b) {
		for n := r[0]; n <= r[1]; n++ {
			inB[n] = true
		}
	}
	for _, r := range ranges(a) {
		for n := r[0]; n <= r[1]; n++ {
			if !inB[n] {
				return false
			}
		}
	}
	return true
}

func ranges(s string) [][2]int {
	var all [][2]int
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		low, err1 := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		if err1 == nil && err2 == nil {
			all = append(all, [2]int{low, high})
		}
	}
	return all
}

func (l *limits) pids(r Resources) {
	limit := int64(DefaultPids)
	if r.Pids != nil {
		limit = *r.Pids
	}
	if r.PidsLimit != nil {
		limit = *r.PidsLimit
	}
	switch {
	case limit < -1:
		l.fail(fmt.Errorf("cannot limit processes to %d: -1 is no limit", limit))
	case limit <= 0: // no limit, which is how a cgroup begins
	case r.PidsLimit == nil && !slices.Contains(l.have, "pids"): // a default only
	case l.need("pids", "processes"):
		l.files["pids.max"] = strconv.FormatInt(limit, 10)
	}
}
