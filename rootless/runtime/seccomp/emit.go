package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

type code = []unix.SockFilter

// operators of argument comparisons.
var operators = map[specs.LinuxSeccompOperator]bool{
	specs.OpNotEqual: true, specs.OpLessThan: true, specs.OpLessEqual: true, specs.OpEqualTo: true,
	specs.OpGreaterEqual: true, specs.OpGreaterThan: true, specs.OpMaskedEqual: true,
}

// Operators lists the operators that are known, for `features`.
func Operators() []string {
	return []string{"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ"}
}

const (
	load    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	ret     = unix.BPF_RET | unix.BPF_K
	jump    = unix.BPF_JMP | unix.BPF_JA
	ifEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	ifAbove = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	ifFrom  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	and     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
)

// emit lays the filter out: a jump to the architecture's part, and there a binary
// search over ranges of system call numbers. The kernel runs the filter for every
// number when it is loaded (seccomp_cache_prepare): a list of comparisons takes
// twice as long to load.
func emit(arches []*arch, fallback uint32) code {
	out := code{{Code: load, K: offsetArch}}
	for i := 0; i < len(arches); i++ {
		a := arches[i]
		if a.name == "X32" {
			continue // part of X86_64
		}
		part := code{{Code: load, K: offsetNumber}}
		if a.name == "X86_64" {
			part = append(part, x32Part(arches, fallback)...)
		}
		part = append(part, a.search(fallback)...)
		out = append(out, skipUnless(ifEqual, a.audit, len(part))...)
		out = append(out, part...)
	}
	return append(out, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS})
}

// skipUnless continues if the comparison holds, and skips n instructions if not:
// a conditional jump alone reaches 255.
func skipUnless(op uint16, k uint32, n int) code {
	if n <= 255 {
		return code{{Code: op, Jf: uint8(n), K: k}}
	}
	return code{{Code: op, Jt: 1, K: k}, {Code: jump, K: uint32(n)}}
}

// x32Bit marks x32's calls, which have X86_64's audit architecture.
const x32Bit = 0x40000000

func x32Part(arches []*arch, fallback uint32) code {
	part := code{{Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS}}
	for _, a := range arches {
		if a.name == "X32" {
			part = a.search(fallback)
		}
	}
	return append(skipUnless(ifFrom, x32Bit, len(part)), part...)
}

// segment is a range of numbers, up to the next one's start, with one treatment.
type segment struct {
	start uint32
	body  code
}

// search is the binary search over all numbers.
func (a *arch) search(fallback uint32) code {
	var segments []segment
	add := func(start uint32, body code) {
		if n := len(segments); n > 0 && len(body) == 1 && len(segments[n-1].body) == 1 && body[0] == segments[n-1].body[0] {
			return // the same as before: one range
		}
		segments = append(segments, segment{start, body})
	}
	other := code{{Code: ret, K: fallback}}
	next := uint32(0)
	for _, n := range a.sorted() {
		if n > next || len(segments) == 0 && n > 0 {
			add(next, other)
		}
		add(n, a.rules[n].body(fallback))
		next = n + 1
	}
	if a.last+1 > next || len(segments) == 0 {
		add(next, other)
	}
	if newer := unknown(fallback); newer != fallback && a.last > 0 {
		add(a.last+1, code{{Code: ret, K: newer}})
	} else {
		add(next, other)
	}
	return tree(segments)
}

// unknown is the treatment of calls that are newer than the profile.
func unknown(fallback uint32) uint32 {
	switch fallback & unix.SECCOMP_RET_ACTION_FULL {
	case unix.SECCOMP_RET_ERRNO, unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP:
		return unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	}
	return fallback
}

// tree compares with the middle and goes on in one half.
func tree(s []segment) code {
	if len(s) == 1 {
		return s[0].body
	}
	middle := len(s) / 2
	below, above := tree(s[:middle]), tree(s[middle:])
	// Above first: skipUnless jumps over it when the number is below.
	out := append(skipUnless(ifFrom, s[middle].start, len(above)), above...)
	return append(out, below...)
}

// body is the treatment of one call. The number is in the accumulator and not
// needed any more.
func (c *call) body(fallback uint32) code {
	if c.always {
		return code{{Code: ret, K: c.action}}
	}
	var out code
	for i := range c.conditions {
		out = append(out, c.conditions[i].test()...)
	}
	return append(out, unix.SockFilter{Code: ret, K: fallback})
}

// test returns the action if all comparisons hold, and falls through if not.
func (c *condition) test() code {
	out := code{{Code: ret, K: c.action}}
	for i := len(c.args) - 1; i >= 0; i-- {
		out = append(c.args[i].test(len(out)), out...)
	}
	return out
}

// test continues if the comparison holds, and otherwise skips n instructions more.
func (a *argument) test(n int) code {
	value, low, high := a.Value, uint32(offsetArgs+8*a.Index), uint32(offsetArgs+8*a.Index+4)
	if bigEndian() {
		low, high = high, low
	}
	mask := ^uint64(0)
	if a.Op == specs.OpMaskedEqual {
		mask, value = a.Value, a.ValueTwo
	}
	if a.half {
		return halfTest(a.Op, low, uint32(mask), uint32(value), n)
	}
	lo, hi := uint32(value), uint32(value>>32)
	second := halfTest(a.Op, low, uint32(mask), lo, n)
	all := len(second)
	switch a.Op {
	case specs.OpEqualTo, specs.OpMaskedEqual:
		first := halfTest(a.Op, high, uint32(mask>>32), hi, n+all)
		return append(first, second...)
	case specs.OpNotEqual:
		// The upper halves differ, or the lower ones do.
		return append(code{{Code: load, K: high}, {Code: ifEqual, Jf: uint8(all), K: hi}}, second...)
	case specs.OpGreaterThan, specs.OpGreaterEqual:
		// Above: holds. Equal: look at the lower half. Below: does not.
		return append(code{
			{Code: load, K: high},
			{Code: ifAbove, Jt: uint8(all + 1), K: hi},
			{Code: ifEqual, Jf: uint8(all + n), K: hi},
		}, second...)
	default: // less
		return append(code{
			{Code: load, K: high},
			{Code: ifAbove, Jt: uint8(all + 1 + n), K: hi},
			{Code: ifEqual, Jf: uint8(all), K: hi},
		}, second...)
	}
}

// halfTest compares 32 bits: it continues if they fit, and skips n if not.
func halfTest(op specs.LinuxSeccompOperator, offset, mask, value uint32, n int) code {
	out := code{{Code: load, K: offset}}
	skip := uint8(n)
	switch op {
	case specs.OpEqualTo:
		return append(out, unix.SockFilter{Code: ifEqual, Jf: skip, K: value})
	case specs.OpMaskedEqual:
		return append(out, unix.SockFilter{Code: and, K: mask}, unix.SockFilter{Code: ifEqual, Jf: skip, K: value})
	case specs.OpNotEqual:
		return append(out, unix.SockFilter{Code: ifEqual, Jt: skip, K: value})
	case specs.OpGreaterThan:
		return append(out, unix.SockFilter{Code: ifAbove, Jf: skip, K: value})
	case specs.OpGreaterEqual:
		return append(out, unix.SockFilter{Code: ifFrom, Jf: skip, K: value})
	case specs.OpLessThan:
		return append(out, unix.SockFilter{Code: ifFrom, Jt: skip, K: value})
	default: // OpLessEqual
		return append(out, unix.SockFilter{Code: ifAbove, Jt: skip, K: value})
	}
}
