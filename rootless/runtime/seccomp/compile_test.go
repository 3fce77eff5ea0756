package seccomp

import (
	"encoding/binary"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// data is struct seccomp_data.
type data struct {
	number, arch uint32
	args         [6]uint64
}

// interpret runs a filter as the kernel would; see linux/filter.h.
func interpret(t testing.TB, program []byte, d data) uint32 {
	t.Helper()
	mem := make([]byte, 64)
	binary.NativeEndian.PutUint32(mem, d.number)
	binary.NativeEndian.PutUint32(mem[4:], d.arch)
	for i, a := range d.args {
		binary.NativeEndian.PutUint64(mem[16+8*i:], a)
	}
	acc := uint32(0)
	for pc, steps := 0, 0; ; pc++ {
		if steps++; pc < 0 || pc*8 >= len(program) || steps > maxInstructions {
			t.Fatalf("ran out of the filter at %d", pc)
		}
		code := binary.NativeEndian.Uint16(program[pc*8:])
		jt, jf, k := int(program[pc*8+2]), int(program[pc*8+3]), binary.NativeEndian.Uint32(program[pc*8+4:])
		branch := func(holds bool) {
			if holds {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch code {
		case load:
			acc = binary.NativeEndian.Uint32(mem[k:])
		case and:
			acc &= k
		case jump:
			pc += int(k)
		case ifEqual:
			branch(acc == k)
		case ifAbove:
			branch(acc > k)
		case ifFrom:
			branch(acc >= k)
		case ret:
			return k
		default:
			t.Fatalf("instruction %#x", code)
		}
	}
}

func compiled(t testing.TB, p *specs.LinuxSeccomp) []byte {
	t.Helper()
	program, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

const (
	allow  = uint32(unix.SECCOMP_RET_ALLOW)
	denied = uint32(unix.SECCOMP_RET_ERRNO | unix.EPERM)
	nosys  = uint32(unix.SECCOMP_RET_ERRNO | unix.ENOSYS)
	death  = uint32(unix.SECCOMP_RET_KILL_PROCESS)
)

func onAMD64(t *testing.T) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are those of amd64")
	}
}

// Every comparison means what the specification says, over 64 bits.
func TestComparisons(t *testing.T) {
	onAMD64(t)
	const big = uint64(5) << 32
	values := []uint64{0, 1, 4, 5, 6, big - 1, big, big + 1, big + 5, big + 6, big<<1 + 5, ^uint64(0)}
	holds := map[specs.LinuxSeccompOperator]func(a, v, v2 uint64) bool{
		specs.OpEqualTo: func(a, v, _ uint64) bool { return a == v }, specs.OpNotEqual: func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan: func(a, v, _ uint64) bool { return a < v }, specs.OpLessEqual: func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan: func(a, v, _ uint64) bool { return a > v }, specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual: func(a, v, v2 uint64) bool { return a&v == v2 },
	}
	for op, want := range holds {
		for _, v := range values {
			for _, v2 := range []uint64{0, 1, big} {
				program := compiled(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
					{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
						{Index: 2, Value: v, ValueTwo: v2, Op: op}, {Index: 5, Value: 7, Op: specs.OpEqualTo}}}}})
				for _, a := range values {
					for _, other := range []uint64{7, 8} {
						got := interpret(t, program, data{0, unix.AUDIT_ARCH_X86_64, [6]uint64{2: a, 5: other}})
						if expect := want(a, v, v2) && other == 7; (got == allow) != expect {
							t.Fatalf("%s %#x %#x, argument %#x: %#x", op, v, v2, a, got)
						}
					}
				}
			}
		}
	}
}

// The filter says the same as a plain reading of the rules, for any profile.
func TestAgainstModel(t *testing.T) {
	onAMD64(t)
	numbers := callNumbers("X86_64")
	var names []string
	for name := range numbers {
		names = append(names, name)
	}
	r := rand.New(rand.NewSource(1))
	for range 200 {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
		model := map[uint32][]specs.LinuxSyscall{}
		for range r.Intn(150) {
			s := specs.LinuxSyscall{Action: []specs.LinuxSeccompAction{specs.ActAllow, specs.ActTrap, specs.ActKillProcess}[r.Intn(3)]}
			if r.Intn(3) == 0 {
				s.Args = []specs.LinuxSeccompArg{{Index: uint(r.Intn(6)), Value: uint64(r.Intn(4)), Op: specs.OpEqualTo}}
			}
			for range 1 + r.Intn(4) {
				name := names[r.Intn(len(names))]
				s.Names = append(s.Names, name)
				model[numbers[name]] = append(model[numbers[name]], s)
			}
			p.Syscalls = append(p.Syscalls, s)
		}
		last := uint32(0)
		for n := range model {
			last = max(last, n)
		}
		program := compiled(t, p)
		for range 400 {
			d := data{number: uint32(r.Intn(600)), arch: unix.AUDIT_ARCH_X86_64}
			for i := range d.args {
				d.args[i] = uint64(r.Intn(5))
			}
			if got, want := interpret(t, program, d), modelled(model, last, d); got != want {
				t.Fatalf("%+v: %#x, want %#x", d, got, want)
			}
		}
	}
}

// modelled is the plain reading: without conditions first, then in order.
func modelled(model map[uint32][]specs.LinuxSyscall, last uint32, d data) uint32 {
	rules := model[d.number]
	for _, conditional := range []bool{false, true} {
		for _, s := range rules {
			if len(s.Args) > 0 != conditional {
				continue
			}
			name := ""
			for n, number := range callNumbers("X86_64") {
				if number == d.number {
					name = n
				}
			}
			if conditional {
				a := s.Args[0]
				got := d.args[a.Index]
				if is32bit(name, a.Index) {
					got = uint64(uint32(got))
				}
				if got != a.Value {
					continue
				}
			}
			code, _ := action(s.Action, nil)
			return code
		}
	}
	if len(model) > 0 && d.number > last {
		return nosys
	}
	return denied
}

// An architecture that is not listed is killed; x32's numbers are their own.
func TestArchitectures(t *testing.T) {
	onAMD64(t)
	p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"write", "ioctl", "waitpid"}, Action: specs.ActAllow}}}
	native := compiled(t, p)
	p.Architectures = []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}
	all := compiled(t, p)
	for _, c := range []struct {
		program []byte
		d       data
		want    uint32
	}{
		{native, data{1, unix.AUDIT_ARCH_X86_64, [6]uint64{}}, allow},
		{native, data{4, unix.AUDIT_ARCH_I386, [6]uint64{}}, death},
		{native, data{x32Bit | 1, unix.AUDIT_ARCH_X86_64, [6]uint64{}}, death},
		{all, data{4, unix.AUDIT_ARCH_I386, [6]uint64{}}, allow},    // write
		{all, data{7, unix.AUDIT_ARCH_I386, [6]uint64{}}, allow},    // waitpid, which amd64 has not
		{all, data{1, unix.AUDIT_ARCH_I386, [6]uint64{}}, denied},   // exit
		{all, data{7, unix.AUDIT_ARCH_X86_64, [6]uint64{}}, denied}, // poll
		{all, data{x32Bit | 514, unix.AUDIT_ARCH_X86_64, [6]uint64{}}, allow},
		{all, data{514, unix.AUDIT_ARCH_X86_64, [6]uint64{}}, nosys},
		{all, data{1, unix.AUDIT_ARCH_AARCH64, [6]uint64{}}, death},
	} {
		if got := interpret(t, c.program, c.d); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.d, got, c.want)
		}
	}
}

// All actions and their data.
func TestActions(t *testing.T) {
	onAMD64(t)
	errno := uint(38)
	for want, s := range map[uint32]specs.LinuxSyscall{
		unix.SECCOMP_RET_KILL_THREAD:  {Action: specs.ActKill},
		unix.SECCOMP_RET_KILL_PROCESS: {Action: specs.ActKillProcess},
		unix.SECCOMP_RET_TRAP:         {Action: specs.ActTrap},
		unix.SECCOMP_RET_ERRNO | 38:   {Action: specs.ActErrno, ErrnoRet: &errno},
		unix.SECCOMP_RET_TRACE | 38:   {Action: specs.ActTrace, ErrnoRet: &errno},
		unix.SECCOMP_RET_LOG:          {Action: specs.ActLog},
		unix.SECCOMP_RET_USER_NOTIF:   {Action: specs.ActNotify},
		unix.SECCOMP_RET_ALLOW:        {Action: specs.ActAllow},
		denied:                        {Action: specs.ActErrno},
	} {
		s.Names = []string{"read"}
		fallback := specs.ActAllow
		if s.Action == specs.ActAllow {
			fallback = specs.ActLog
		}
		program := compiled(t, &specs.LinuxSeccomp{DefaultAction: fallback, Syscalls: []specs.LinuxSyscall{s}})
		if got := interpret(t, program, data{number: 0, arch: unix.AUDIT_ARCH_X86_64}); got != want {
			t.Errorf("%s: %#x, want %#x", s.Action, got, want)
		}
	}
	for _, bad := range []*specs.LinuxSeccomp{
		{DefaultAction: "SCMP_ACT_NOTHING"}, {DefaultAction: specs.ActNotify},
		{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"x86"}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: "x"}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}}},
		{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{{Op: "x"}}}}},
	} {
		if _, err := Compile(bad); err == nil {
			t.Errorf("compiled: %+v", bad)
		}
	}
}

// The upper half of a 32-bit argument cannot be used to dodge a rule.
func TestUpperHalf(t *testing.T) {
	onAMD64(t)
	program := compiled(t, &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: unix.AF_VSOCK, Op: specs.OpNotEqual}}}}})
	for _, family := range []uint64{unix.AF_VSOCK, unix.AF_VSOCK | 1<<32, unix.AF_VSOCK | 1<<63} {
		if got := interpret(t, program, data{41, unix.AUDIT_ARCH_X86_64, [6]uint64{family}}); got != denied {
			t.Errorf("%#x: %#x", family, got)
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8}, uint32(1), uint64(3))
	names := []string{"read", "socket", "clone", "openat", "mmap", "personality", "socketcall"}
	ops := []specs.LinuxSeccompOperator{specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual}
	f.Fuzz(func(t *testing.T, script []byte, number uint32, arg uint64) {
		p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32}}
		for len(script) >= 4 && len(p.Syscalls) < 30 {
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{
				Names: []string{names[int(script[0])%len(names)]}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: uint(script[1] % 6), Value: uint64(script[2]), ValueTwo: uint64(script[3] & 1), Op: ops[int(script[1]>>3)%len(ops)]}}})
			script = script[4:]
		}
		program, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, arch := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, 0} {
			interpret(t, program, data{number, arch, [6]uint64{arg, arg, arg, arg, arg, arg}}) // it always ends
		}
	})
}

// The kernel takes the filter, and does what it says.
func TestLoad(t *testing.T) {
	if os.Getenv("MOSS_SECCOMP_CHILD") != "" {
		child()
	}
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestLoad$")
	cmd.Env = append(os.Environ(), "MOSS_SECCOMP_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "numerical argument out of domain" {
		t.Errorf("%v: %s", err, out)
	}
}

// child loads a filter and tries what it denies.
func child() {
	runtime.LockOSThread()
	fail := func(err error) {
		if err != nil {
			os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
	}
	errno := uint(unix.EDOM)
	program, err := Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: &errno}}})
	fail(err)
	fail(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, err = Load(program, DefaultFlags)
	fail(err)
	err = syscall.Mkdirat(unix.AT_FDCWD, "/tmp/never", 0o700)
	os.Stdout.WriteString(err.Error() + "\n")
	os.Exit(0)
}

// A profile is built and compiled once for a key, and again for another.
func TestCached(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	builds := 0
	build := func() (*specs.LinuxSeccomp, error) {
		builds++
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}, nil
	}
	one, err := Cached(dir, []byte("a"), build)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := Cached(dir, []byte("a"), build)
	other, _ := Cached(dir, []byte("b"), build)
	if one != again || one == other || builds != 2 {
		t.Errorf("%s %s %s after %d builds", one, again, other, builds)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left in the cache: %v", entries)
	}
	_, err = Cached(dir, []byte("c"), func() (*specs.LinuxSeccomp, error) {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}}, nil
	})
	if err != ErrNotCacheable {
		t.Errorf("a profile with flags: %v", err)
	}
}
