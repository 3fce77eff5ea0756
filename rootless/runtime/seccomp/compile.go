// Package seccomp compiles OCI seccomp profiles to BPF in pure Go, keeps the
// result in files, and loads it.
package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxInstructions is what the kernel accepts: BPF_MAXINSNS.
const maxInstructions = 4096

// auditArches are the kernel's names of the architectures; see linux/audit.h.
var auditArches = map[string]uint32{
	"X86_64": unix.AUDIT_ARCH_X86_64, "X32": unix.AUDIT_ARCH_X86_64, "X86": unix.AUDIT_ARCH_I386,
	"ARM": unix.AUDIT_ARCH_ARM, "AARCH64": unix.AUDIT_ARCH_AARCH64, "LOONGARCH64": unix.AUDIT_ARCH_LOONGARCH64,
	"MIPS": unix.AUDIT_ARCH_MIPS, "MIPS64": unix.AUDIT_ARCH_MIPS64, "MIPSEL": unix.AUDIT_ARCH_MIPSEL,
	"MIPSEL64": unix.AUDIT_ARCH_MIPSEL64, "PPC": unix.AUDIT_ARCH_PPC, "PPC64": unix.AUDIT_ARCH_PPC64,
	"PPC64LE": unix.AUDIT_ARCH_PPC64LE, "RISCV64": unix.AUDIT_ARCH_RISCV64, "S390X": unix.AUDIT_ARCH_S390X,
}

// narrow are the architectures whose registers have 32 bits.
var narrow = map[string]bool{"X86": true, "ARM": true, "MIPS": true, "MIPSEL": true, "PPC": true}

// nativeArches by GOARCH.
var nativeArches = map[string]string{
	"amd64": "X86_64", "386": "X86", "arm": "ARM", "arm64": "AARCH64", "loong64": "LOONGARCH64",
	"mips": "MIPS", "mipsle": "MIPSEL", "mips64": "MIPS64", "mips64le": "MIPSEL64",
	"ppc64": "PPC64", "ppc64le": "PPC64LE", "riscv64": "RISCV64", "s390x": "S390X",
}

// Compile turns a profile into the instructions of a filter (struct sock_filter,
// native endian), as libseccomp understands the same profile: a system call name
// that an architecture does not have is ignored there; a rule without conditions
// wins over rules with; an architecture that is not listed is killed. Two things
// differ. A call newer than all that the profile knows gets ENOSYS where the
// default would be an error or death, so that a program falls back to an older
// one. And where the kernel looks at 32 bits of an argument only (socket,
// personality, …), so does the filter.
func Compile(p *specs.LinuxSeccomp) ([]byte, error) {
	code, err := compile(p)
	if err != nil {
		return nil, fmt.Errorf("cannot compile seccomp profile: %w", err)
	}
	if len(code) > maxInstructions {
		return nil, fmt.Errorf("cannot compile seccomp profile: it needs %d instructions, and the kernel takes %d", len(code), maxInstructions)
	}
	out := make([]byte, 0, len(code)*8)
	for _, i := range code {
		out = binary.NativeEndian.AppendUint16(out, i.Code)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// arch is one architecture's part of a filter.
type arch struct {
	name   string
	audit  uint32
	narrow bool
	calls  map[string]uint32
	rules  map[uint32]*call
	last   uint32 // the highest number that the profile names
}

// call is what the profile says about one system call.
type call struct {
	always     bool
	action     uint32 // with always
	conditions []condition
}

// condition is one rule with conditions on arguments, all of which must hold.
type condition struct {
	action uint32
	args   []argument
}

// argument is a comparison; half says that 32 bits count.
type argument struct {
	specs.LinuxSeccompArg
	half bool
}

func compile(p *specs.LinuxSeccomp) ([]unix.SockFilter, error) {
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	if p.DefaultAction == specs.ActNotify {
		return nil, errors.New("the default action cannot be SCMP_ACT_NOTIFY")
	}
	arches, err := selectArches(p.Architectures)
	if err != nil {
		return nil, err
	}
	for i := range p.Syscalls {
		if err := addRules(arches, &p.Syscalls[i], fallback); err != nil {
			return nil, err
		}
	}
	return emit(arches, fallback), nil
}

// selectArches are the profile's architectures, the native one first and always.
func selectArches(wanted []specs.Arch) ([]*arch, error) {
	native := nativeArches[runtime.GOARCH]
	names := []string{native}
	for _, w := range wanted {
		name, ok := strings.CutPrefix(string(w), "SCMP_ARCH_")
		if !ok {
			return nil, fmt.Errorf("unknown architecture %q", w)
		}
		if _, ok := auditArches[name]; ok && name != native {
			names = append(names, name)
		}
	}
	var out []*arch
	seen := map[string]bool{}
	for _, name := range names {
		if seen[name] {
			continue
		}
		seen[name] = true
		out = append(out, &arch{
			name: name, audit: auditArches[name], narrow: narrow[name],
			calls: callNumbers(name), rules: map[uint32]*call{},
		})
	}
	return out, nil
}

// callNumbers reads the table of an architecture.
func callNumbers(name string) map[string]uint32 {
	calls := map[string]uint32{}
	for i := range tables {
		if tables[i].arch != name {
			continue
		}
		words := strings.Fields(tables[i].calls)
		for j := 0; j+1 < len(words); j += 2 {
			n, _ := strconv.ParseUint(words[j+1], 10, 32)
			calls[words[j]] = uint32(n)
		}
	}
	// What libseccomp calls otherwise than x/sys does.
	for _, alias := range [][2]string{{"newfstatat", "fstatat"}, {"fadvise64_64", "arm_fadvise64_64"}} {
		if n, ok := calls[alias[1]]; ok {
			if _, taken := calls[alias[0]]; !taken {
				calls[alias[0]] = n
			}
		}
	}
	return calls
}

// Actions lists the actions that are known, for `features`.
var Actions = []specs.LinuxSeccompAction{specs.ActKill, specs.ActKillProcess, specs.ActKillThread,
	specs.ActTrap, specs.ActErrno, specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify}

// Architectures lists the architectures that are known, for `features`.
func Architectures() []string {
	var names []string
	for name := range auditArches {
		names = append(names, "SCMP_ARCH_"+name)
	}
	sort.Strings(names)
	return names
}

// action is the filter's return value for an action.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = uint32(*errno) & unix.SECCOMP_RET_DATA
	}
	if errno != nil && a != specs.ActErrno && a != specs.ActTrace {
		return 0, fmt.Errorf("action %q takes no errnoRet", a)
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case specs.ActKillProcess:
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case specs.ActTrap:
		return unix.SECCOMP_RET_TRAP, nil
	case specs.ActErrno:
		return unix.SECCOMP_RET_ERRNO | data, nil
	case specs.ActTrace:
		return unix.SECCOMP_RET_TRACE | data, nil
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	case specs.ActNotify:
		return unix.SECCOMP_RET_USER_NOTIF, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// addRules adds one entry of the profile to every architecture.
func addRules(arches []*arch, entry *specs.LinuxSyscall, fallback uint32) error {
	ret, err := action(entry.Action, entry.ErrnoRet)
	if err != nil {
		return err
	}
	for _, arg := range entry.Args {
		if arg.Index > 5 {
			return fmt.Errorf("a system call has no argument %d", arg.Index)
		}
		if _, ok := operators[arg.Op]; !ok {
			return fmt.Errorf("unknown operator %q", arg.Op)
		}
	}
	for _, a := range arches {
		for _, name := range entry.Names {
			a.add(name, ret, entry.Args, fallback)
		}
	}
	return nil
}

// add adds a rule for one name.
func (a *arch) add(name string, ret uint32, args []specs.LinuxSeccompArg, fallback uint32) {
	if number, ok := a.calls[name]; ok {
		a.last = max(a.last, number)
		if ret != fallback {
			a.rule(number, ret, name, args)
		}
	}
	// On these architectures the C library may call bind(2) and others through
	// socketcall(2). The arguments are then behind a pointer, out of reach of
	// a filter: what is allowed by its arguments only is not allowed that way.
	multiplexer, ok := a.calls["socketcall"]
	if index := socketCalls[name]; ok && index != 0 && len(args) == 0 && ret != fallback {
		a.rule(multiplexer, ret, "socketcall", []specs.LinuxSeccompArg{{Value: uint64(index), Op: specs.OpEqualTo}})
	}
}

func (a *arch) rule(number, ret uint32, name string, args []specs.LinuxSeccompArg) {
	a.last = max(a.last, number)
	c := a.rules[number]
	if c == nil {
		c = &call{}
		a.rules[number] = c
	}
	if len(args) == 0 {
		if !c.always {
			c.always, c.action = true, ret
		}
		return
	}
	// Several conditions on one argument are alternatives: runc and crun read
	// them so, and profiles rely on it.
	count := [6]int{}
	alternatives := false
	for _, arg := range args {
		count[arg.Index]++
		alternatives = alternatives || count[arg.Index] > 1
	}
	all := make([]argument, 0, len(args))
	for _, arg := range args {
		all = append(all, argument{arg, a.narrow || is32bit(name, arg.Index)})
	}
	if !alternatives {
		c.conditions = append(c.conditions, condition{ret, all})
		return
	}
	for i := range all {
		c.conditions = append(c.conditions, condition{ret, all[i : i+1]})
	}
}

// is32bit reports whether the kernel takes 32 bits of an argument: the upper
// half of the register is then the caller's to fill, and a comparison that looked
// at it could be dodged.
func is32bit(name string, index uint) bool {
	switch name {
	case "socket", "socketpair", "personality", "socketcall", "keyctl", "bpf", "setns",
		"prctl", "seccomp", "quotactl", "kcmp", "fcntl", "ioctl", "futex":
		return narrowArguments[name]&(1<<index) != 0
	}
	return false
}

// narrowArguments are the 32-bit arguments of the system calls above, by bit.
var narrowArguments = map[string]uint{
	"socket": 0b111, "socketpair": 0b111, "personality": 0b1, "socketcall": 0b1, "keyctl": 0b1,
	"bpf": 0b101, "setns": 0b11, "prctl": 0b1, "seccomp": 0b11, "quotactl": 0b101, "kcmp": 0b111,
	"fcntl": 0b11, "ioctl": 0b11, "futex": 0b110,
}

// socketCalls are the numbers of socketcall(2); see linux/net.h.
var socketCalls = map[string]int{
	"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7,
	"socketpair": 8, "send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14,
	"getsockopt": 15, "sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
}

// sorted are the numbers that have rules.
func (a *arch) sorted() []uint32 {
	numbers := make([]uint32, 0, len(a.rules))
	for n := range a.rules {
		numbers = append(numbers, n)
	}
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	return numbers
}

// Offsets in struct seccomp_data; see seccomp(2).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// bigEndian reports in which order the halves of an argument lie.
func bigEndian() bool {
	one := uint16(1)
	return *(*byte)(unsafe.Pointer(&one)) == 0
}
