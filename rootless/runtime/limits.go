package runtime

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// rlimits by OCI name.
var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE,
	"RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS,
	"RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// limits sets what a process has beside its identity: what only the caller's
// privilege and the caller's /proc can set, before both are left.
func (s *stage) limits(p *specs.Process) error {
	if p.OOMScoreAdj != nil {
		if err := s.oomScore(*p.OOMScoreAdj); err != nil {
			return err
		}
	}
	if err := setScheduler(p.Scheduler); err != nil {
		return err
	}
	if err := setIOPriority(p.IOPriority); err != nil {
		return err
	}
	return nil
}

// oomScore sets oom_score_adj. Lowering it takes a privilege that no user
// namespace gives: the value that the process has already is no error.
func (s *stage) oomScore(want int) error {
	err := s.writeProc("self/oom_score_adj", strconv.Itoa(want))
	if err == nil {
		return nil
	}
	data, readErr := s.readProc("self/oom_score_adj")
	if readErr == nil && strings.TrimSpace(string(data)) == strconv.Itoa(want) {
		return nil
	}
	return fmt.Errorf("cannot set OOM score adjustment %d: %w", want, err)
}

// setRlimits sets the resource limits, after the last descriptor is opened and
// the last page mapped that they could refuse.
func setRlimits(limits []specs.POSIXRlimit) error {
	seen := map[string]bool{}
	for _, l := range limits {
		resource, ok := rlimits[l.Type]
		if !ok {
			return fmt.Errorf("cannot set limit %q: unknown", l.Type)
		}
		if seen[l.Type] {
			return fmt.Errorf("cannot set limit %q: given twice", l.Type)
		}
		seen[l.Type] = true
		// Through syscall, which otherwise puts its own RLIMIT_NOFILE back at Exec.
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard}); err != nil {
			return fmt.Errorf("cannot set limit %s to %d:%d: %w", l.Type, l.Soft, l.Hard, err)
		}
	}
	return nil
}

var schedulerPolicies = map[specs.LinuxSchedulerPolicy]uint32{
	"SCHED_OTHER": unix.SCHED_NORMAL, "SCHED_FIFO": unix.SCHED_FIFO, "SCHED_RR": unix.SCHED_RR,
	"SCHED_BATCH": unix.SCHED_BATCH, "SCHED_ISO": 4, "SCHED_IDLE": unix.SCHED_IDLE, "SCHED_DEADLINE": unix.SCHED_DEADLINE,
}

var schedulerFlags = map[specs.LinuxSchedulerFlag]uint64{
	specs.SchedFlagResetOnFork: unix.SCHED_FLAG_RESET_ON_FORK, specs.SchedFlagReclaim: unix.SCHED_FLAG_RECLAIM,
	specs.SchedFlagDLOverrun: unix.SCHED_FLAG_DL_OVERRUN, specs.SchedFlagKeepPolicy: unix.SCHED_FLAG_KEEP_POLICY,
	specs.SchedFlagKeepParams: unix.SCHED_FLAG_KEEP_PARAMS, specs.SchedFlagUtilClampMin: unix.SCHED_FLAG_UTIL_CLAMP_MIN,
	specs.SchedFlagUtilClampMax: unix.SCHED_FLAG_UTIL_CLAMP_MAX,
}

// setScheduler calls sched_setattr(2).
func setScheduler(c *specs.Scheduler) error {
	if c == nil {
		return nil
	}
	policy, ok := schedulerPolicies[c.Policy]
	if !ok {
		return fmt.Errorf("cannot set scheduler: unknown policy %q", c.Policy)
	}
	attr := unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: policy, Nice: c.Nice, Priority: uint32(c.Priority),
		Runtime: c.Runtime, Deadline: c.Deadline, Period: c.Period,
	}
	for _, f := range c.Flags {
		bit, ok := schedulerFlags[f]
		if !ok {
			return fmt.Errorf("cannot set scheduler: unknown flag %q", f)
		}
		attr.Flags |= bit
	}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("cannot set scheduler %s: %w", c.Policy, err)
	}
	return nil
}

// setIOPriority calls ioprio_set(2) for the calling thread.
func setIOPriority(p *specs.LinuxIOPriority) error {
	if p == nil {
		return nil
	}
	class, ok := map[specs.IOPriorityClass]int{
		specs.IOPRIO_CLASS_RT: 1, specs.IOPRIO_CLASS_BE: 2, specs.IOPRIO_CLASS_IDLE: 3,
	}[p.Class]
	if !ok {
		return fmt.Errorf("cannot set I/O priority: unknown class %q", p.Class)
	}
	const whoProcess, classShift = 1, 13
	_, _, errno := unix.RawSyscall(unix.SYS_IOPRIO_SET, whoProcess, 0, uintptr(class<<classShift|p.Priority))
	if errno != 0 {
		return fmt.Errorf("cannot set I/O priority %s %d: %w", p.Class, p.Priority, errno)
	}
	return nil
}

// personalityFlags of linux/personality.h; the OCI specification names none.
func personalityFlags() map[specs.LinuxPersonalityFlag]uintptr {
	return map[specs.LinuxPersonalityFlag]uintptr{
		"UNAME26": 0x20000, "ADDR_NO_RANDOMIZE": 0x40000, "FDPIC_FUNCPTRS": 0x80000, "MMAP_PAGE_ZERO": 0x100000,
		"ADDR_COMPAT_LAYOUT": 0x200000, "READ_IMPLIES_EXEC": 0x400000, "ADDR_LIMIT_32BIT": 0x800000, "SHORT_INODE": 0x1000000,
		"WHOLE_SECONDS": 0x2000000, "STICKY_TIMEOUTS": 0x4000000, "ADDR_LIMIT_3GB": 0x8000000,
	}
}

// setPersonality calls personality(2).
func setPersonality(p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	domain, ok := map[specs.LinuxPersonalityDomain]uintptr{specs.PerLinux: 0, specs.PerLinux32: 8}[p.Domain]
	if !ok {
		return fmt.Errorf("cannot set personality: unknown domain %q", p.Domain)
	}
	for _, flag := range p.Flags {
		bit, ok := personalityFlags()[flag]
		if !ok {
			return fmt.Errorf("cannot set personality: unknown flag %q", flag)
		}
		domain |= bit
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, domain, 0, 0); errno != 0 {
		return fmt.Errorf("cannot set personality %s: %w", p.Domain, errno)
	}
	return nil
}
