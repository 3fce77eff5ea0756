package profile

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime/seccomp"
)

const x86_64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386

// The default profile refuses what it must, whatever the number of bits, and
// allows it with the capability for it.
func TestDefault(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers are those of amd64")
	}
	const none, admin = "", "CAP_SYS_ADMIN"
	for _, c := range []struct {
		name   string
		cap    string
		arch   uint32
		number uint32
		args   [2]uint64
		want   unix.Errno // 0: allowed
	}{
		{"read", none, x86_64, 0, [2]uint64{}, 0},
		{"socket AF_INET", none, x86_64, 41, [2]uint64{unix.AF_INET}, 0},
		{"socket AF_UNIX", none, i386, 359, [2]uint64{unix.AF_UNIX}, 0},
		{"socket AF_ALG", none, x86_64, 41, [2]uint64{unix.AF_ALG}, unix.EPERM},
		{"socket AF_ALG with garbage above", none, x86_64, 41, [2]uint64{unix.AF_ALG | 1<<32}, unix.EPERM},
		{"socket AF_VSOCK", none, x86_64, 41, [2]uint64{unix.AF_VSOCK}, unix.EPERM},
		{"socket AF_ALG, 32 bits", none, i386, 359, [2]uint64{unix.AF_ALG}, unix.EPERM},
		{"socketcall socket, 32 bits", none, i386, 102, [2]uint64{1}, unix.EPERM},
		{"socketcall connect, 32 bits", none, i386, 102, [2]uint64{3}, 0},
		{"clone a thread", none, x86_64, 56, [2]uint64{unix.CLONE_VM | unix.CLONE_THREAD}, 0},
		{"clone NEWUSER", none, x86_64, 56, [2]uint64{unix.CLONE_NEWUSER}, unix.EPERM},
		{"clone NEWUSER, 32 bits", none, i386, 120, [2]uint64{unix.CLONE_NEWUSER}, unix.EPERM},
		{"clone NEWUSER", admin, x86_64, 56, [2]uint64{unix.CLONE_NEWUSER}, 0},
		{"unshare", none, x86_64, 272, [2]uint64{unix.CLONE_NEWUSER}, unix.EPERM},
		{"clone3", none, x86_64, 435, [2]uint64{}, unix.ENOSYS},
		{"mount", none, x86_64, 165, [2]uint64{}, unix.EPERM},
		{"mount", admin, x86_64, 165, [2]uint64{}, 0},
		{"open_tree", none, x86_64, 428, [2]uint64{}, unix.EPERM},
		{"bpf", none, x86_64, 321, [2]uint64{}, unix.EPERM},
		{"keyctl", none, x86_64, 250, [2]uint64{}, unix.EPERM},
		{"add_key", none, x86_64, 248, [2]uint64{}, unix.EPERM},
		{"kexec_load", none, x86_64, 246, [2]uint64{}, unix.EPERM},
		{"io_uring_setup", none, x86_64, 425, [2]uint64{}, unix.EPERM},
		{"userfaultfd", none, x86_64, 323, [2]uint64{}, unix.EPERM},
		{"a call of the future", none, x86_64, 9999, [2]uint64{}, unix.ENOSYS},
	} {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
		if c.cap != "" {
			spec.Process.Capabilities.Bounding = []string{c.cap}
		}
		p, err := Default(spec)
		if err != nil {
			t.Fatal(err)
		}
		program, err := seccomp.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		got := run(program, c.arch, c.number, c.args)
		want := uint32(unix.SECCOMP_RET_ALLOW)
		if c.want != 0 {
			want = unix.SECCOMP_RET_ERRNO | uint32(c.want)
		}
		if got != want {
			t.Errorf("%s %s: %#x, want %#x", c.name, c.cap, got, want)
		}
	}
}

// run interprets a filter; its instructions are those that the compiler makes.
func run(program []byte, arch, number uint32, args [2]uint64) uint32 {
	mem := make([]byte, 64)
	binary.NativeEndian.PutUint32(mem, number)
	binary.NativeEndian.PutUint32(mem[4:], arch)
	binary.NativeEndian.PutUint64(mem[16:], args[0])
	binary.NativeEndian.PutUint64(mem[24:], args[1])
	acc := uint32(0)
	for pc := 0; ; pc++ {
		i := program[pc*8:]
		k := binary.NativeEndian.Uint32(i[4:])
		holds := false
		switch binary.NativeEndian.Uint16(i) {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.NativeEndian.Uint32(mem[k:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= k
			continue
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(k)
			continue
		case unix.BPF_RET | unix.BPF_K:
			return k
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = acc == k
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			holds = acc > k
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = acc >= k
		}
		if holds {
			pc += int(i[2])
		} else {
			pc += int(i[3])
		}
	}
}
