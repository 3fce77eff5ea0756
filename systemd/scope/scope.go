// Package scope has the user's service manager take over a cgroup that is there already,
// as a scope: it speaks as much of D-Bus by itself as this takes, for programs that live for
// milliseconds, or are to stay small.
//
// The cgroup of a container is made, in the manager's tree and where the manager would
// make it, by who bears the container in it: so no process is ever migrated, and nobody
// waits for the manager. It then adopts the cgroup with all that is in it.
package scope

import (
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The units of moss: that of its own processes, and the slice of it and of the containers.
const (
	Own   = "moss.scope"
	Slice = "moss.slice"
)

// Of is the name of the scope of the container with that ID, OfMonitor that of its
// monitor.
func Of(id string) string        { return "moss-" + id + ".scope" }
func OfMonitor(id string) string { return "moss-monitor-" + id + ".scope" }

// Unit is a scope that is to be made of processes.
type Unit struct {
	Name, Description, Slice string
	PID                      int
	Delegate                 bool
	// Limits are cgroup files and their values: the manager must know them, or it would put
	// back its own.
	Limits map[string]string
	// StopsFirst is a unit that is stopped whenever this one is, and before it.
	StopsFirst string
	// StopSignal is what asks its processes to end when it is stopped; 0: SIGTERM.
	StopSignal int
	// Patience is how long its processes may take to end when it is stopped.
	Patience time.Duration
}

// Start asks for the unit. The answer is the job that does it; news of its end follow.
func (c *Conn) Start(u Unit) uint32 {
	var w writer
	w.text(u.Name)
	w.text("replace")
	w.array(8, func() {
		p := properties{&w}
		p.text("Description", u.Description)
		p.text("Slice", u.Slice)
		p.flag("Delegate", u.Delegate)
		// A failed scope goes away too, or the next one could not have its name.
		p.text("CollectMode", "inactive-or-failed")
		p.long("TimeoutStopUSec", uint64(u.Patience/time.Microsecond))
		if u.StopSignal != 0 {
			p.begin("KillSignal", "i")
			p.number(uint32(u.StopSignal))
		}
		if u.StopsFirst != "" {
			p.list("Before", []string{u.StopsFirst})
			p.list("PropagatesStopTo", []string{u.StopsFirst})
		}
		p.limits(u.Limits, u.Delegate)
		p.pid(u.PID)
	})
	w.array(8, func() {})
	return c.call(manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", w.out)
}

// DescriptionOfMonitor is that of the scope of the monitor of a container whose own scope has
// the other one.
func DescriptionOfMonitor(other string) string { return "monitor of " + other }

// Canceled is the Result of a job that has given way to one that wants the contrary.
const Canceled = "canceled"

// Limit asks to put other limits on a unit that runs.
func (c *Conn) Limit(unit string, limits map[string]string) uint32 {
	return c.set(unit, func(p properties) { p.limits(limits, false) })
}

// Describe asks to say of a unit that runs what is told to people.
func (c *Conn) Describe(unit, description string) uint32 {
	return c.set(unit, func(p properties) { p.text("Description", description) })
}

// set gives properties other values until the unit ends.
func (c *Conn) set(unit string, values func(properties)) uint32 {
	var w writer
	w.text(unit)
	w.number(1) // runtime
	w.array(8, func() { values(properties{&w}) })
	return c.call(manager, "SetUnitProperties", "sba(sv)", w.out)
}

// StopUnit asks to stop a unit.
func (c *Conn) StopUnit(unit string) uint32 {
	var w writer
	w.text(unit)
	w.text("replace")
	return c.call(manager, "StopUnit", "ss", w.out)
}

// Stopping is the State of a manager that ends.
const Stopping = "stopping"

// State asks how the manager is; see is-system-running in systemctl(1). The answer is a Text.
func (c *Conn) State() uint32 {
	var w writer
	w.text(manager)
	w.text("SystemState")
	return c.call("org.freedesktop.DBus.Properties", "Get", "ss", w.out)
}

// AwaitRemoval waits until the manager has removed the cgroup of a scope in which nobody is
// left, and no longer than limit; it says whether there was one. The kernel tells that to
// who watches the directory above: IN_DELETE_SELF does not come for a cgroup that is watched
// (seen with kernel 6.18).
func AwaitRemoval(dir string, limit time.Duration) bool {
	there := func() bool { return unix.Access(dir, unix.F_OK) == nil }
	if !there() {
		return false
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, filepath.Dir(dir), unix.IN_DELETE|unix.IN_ONLYDIR); err != nil {
		return true
	}
	var heard [4096]byte
	for until := time.Now().Add(limit); there(); {
		left := time.Until(until)
		if left <= 0 {
			return true
		}
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		unix.Read(fd, heard[:]) // what went is looked at: others go, too
	}
	return true
}

// properties writes an array of names and values; see org.freedesktop.systemd1(5).
type properties struct{ *writer }

func (p properties) begin(name, kind string) {
	p.align(8)
	p.writer.text(name)
	p.signature(kind)
}

func (p properties) text(name, value string) {
	p.begin(name, "s")
	p.writer.text(value)
}

func (p properties) long(name string, value uint64) {
	p.begin(name, "t")
	p.writer.long(value)
}

func (p properties) flag(name string, value bool) {
	p.begin(name, "b")
	n := uint32(0)
	if value {
		n = 1
	}
	p.number(n)
}

func (p properties) list(name string, values []string) {
	p.begin(name, "as")
	p.array(4, func() {
		for _, v := range values {
			p.writer.text(v)
		}
	})
}

func (p properties) pid(pid int) {
	p.begin("PIDs", "au")
	p.array(4, func() { p.number(uint32(pid)) })
}

func (p properties) bytes(name string, value []byte) {
	p.begin(name, "ay")
	p.array(1, func() { p.out = append(p.out, value...) })
}

// device is one element of a property by device.
type device struct {
	path  string
	value uint64
}

func (p properties) devices(name string, values []device) {
	p.begin(name, "a(st)")
	p.array(8, func() {
		for _, d := range values {
			p.align(8)
			p.writer.text(d.path)
			p.writer.long(d.value)
		}
	})
}

// whole are the properties that are a cgroup file's one number.
var whole = [...]struct{ file, property string }{
	{"cpu.weight", "CPUWeight"}, {"memory.high", "MemoryHigh"}, {"memory.low", "MemoryLow"}, {"memory.max", "MemoryMax"},
	{"memory.min", "MemoryMin"}, {"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
}

// limits are those of the cgroup files that the manager writes itself; new: for a new
// unit, which has no limits by default.
func (p properties) limits(files map[string]string, new bool) {
	if _, ok := files["pids.max"]; !ok && new {
		p.long("TasksMax", math.MaxUint64)
	}
	for _, f := range whole {
		if value, ok := files[f.file]; ok {
			if n, ok := amount(value); ok {
				p.long(f.property, n)
			}
		}
	}
	if quota, period, ok := strings.Cut(files["cpu.max"], " "); quota != "" {
		q, ok1 := amount(quota)
		each, ok2 := uint64(100_000), true
		if ok {
			each, ok2 = amount(period)
		}
		if ok1 && ok2 && each > 0 {
			if q != math.MaxUint64 {
				q = uint64(math.Round(float64(q) * 1e6 / float64(each)))
			}
			p.long("CPUQuotaPerSecUSec", q)
			p.long("CPUQuotaPeriodUSec", each)
		}
	}
	if cpus, ok := files["cpuset.cpus"]; ok {
		p.bytes("AllowedCPUs", mask(cpus))
	}
	if nodes, ok := files["cpuset.mems"]; ok {
		p.bytes("AllowedMemoryNodes", mask(nodes))
	}
	p.io(files["io.weight"], files["io.max"])
}

// amount is a number of a cgroup file.
func amount(s string) (uint64, bool) {
	if s == "max" {
		return math.MaxUint64, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// mask is a list of numbers, such as 0-3,5, as a set of bits.
func mask(list string) []byte {
	var out []byte
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		low, err1 := strconv.Atoi(from)
		high, err2 := strconv.Atoi(to)
		for n := low; err1 == nil && err2 == nil && n <= min(high, 1<<16); n++ {
			for len(out) <= n/8 {
				out = append(out, 0)
			}
			out[n/8] |= 1 << (n % 8)
		}
	}
	return out
}

// io are the limits by device: lines such as "default 100", "8:0 rbps=1024".
func (p properties) io(weights, limits string) {
	var byDevice []device
	for line := range strings.SplitSeq(weights, "\n") {
		name, value, two := strings.Cut(line, " ")
		if !two {
			name, value = "default", name
		}
		n, ok := amount(value)
		switch {
		case !ok:
		case name == "default":
			p.long("IOWeight", n)
		default:
			byDevice = append(byDevice, device{"/dev/block/" + name, n})
		}
	}
	if byDevice != nil {
		p.devices("IODeviceWeight", byDevice)
	}
	each := map[string][]device{}
	var names []string
	for line := range strings.SplitSeq(limits, "\n") {
		words := strings.Fields(line)
		for _, word := range words[min(1, len(words)):] {
			key, value, _ := strings.Cut(word, "=")
			name := map[string]string{
				"rbps": "IOReadBandwidthMax", "wbps": "IOWriteBandwidthMax", "riops": "IOReadIOPSMax", "wiops": "IOWriteIOPSMax",
			}[key]
			if n, ok := amount(value); ok && name != "" {
				each[name] = append(each[name], device{"/dev/block/" + words[0], n})
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		p.devices(name, each[name])
	}
}
