package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Version 2 of cgroups has no files for devices: a BPF program decides. Only the
// host's root may load one, and only the host's root needs it: in a user
// namespace no device node can be made, and the host's permissions hold.

// always are the rules that hold whatever is asked for: nodes may be made (opening
// them is another thing), and the default devices and terminals work.
var always = []specs.LinuxDeviceCgroup{
	{Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"},
	device(1, 3), device(1, 5), device(1, 7), device(1, 8), device(1, 9),
	device(5, 0), device(5, 2), {Allow: true, Type: "c", Major: number(136), Access: "rwm"},
}

func number(n int64) *int64 { return &n }

func device(major, minor int64) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: &major, Minor: &minor, Access: "rwm"}
}

// limitDevices attaches a program for the device rules.
func limitDevices(dir string, r *specs.LinuxResources) error {
	if r == nil || len(r.Devices) == 0 || inUserNamespace() || unix.Geteuid() != 0 {
		return nil
	}
	code, err := deviceProgram(append(r.Devices[:len(r.Devices):len(r.Devices)], always...))
	if err != nil {
		return err
	}
	program, err := loadDeviceProgram(code)
	if err != nil {
		return fmt.Errorf("cannot load device rules: %w", err)
	}
	defer unix.Close(program)
	cgroup, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cgroup)
	attr := struct{ target, program, kind, flags, replace uint32 }{
		uint32(cgroup), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI, 0,
	}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
		return fmt.Errorf("cannot attach device rules: %w", errno)
	}
	return nil
}

// instruction is struct bpf_insn; see linux/bpf.h.
type instruction struct {
	op     uint8
	regs   uint8 // source<<4 | destination
	offset int16
	imm    int32
}

// deviceProgram decides by the last rule that fits; see OCI config-linux.md,
// "Allowed Device list". The context is struct bpf_cgroup_dev_ctx: access_type
// (access<<16 | type), major, minor.
func deviceProgram(rules []specs.LinuxDeviceCgroup) ([]instruction, error) {
	const (
		loadWord = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
		moveReg  = 0xbf // BPF_ALU64 | BPF_MOV | BPF_X
		moveImm  = 0xb7
		andImm   = 0x57
		shiftImm = 0x77 // right
		exit     = 0x95
	)
	code := []instruction{
		{loadWord, 1<<4 | 2, 0, 0}, // r2 = type
		{moveReg, 2<<4 | 3, 0, 0},  // r3 = access
		{andImm, 2, 0, 0xffff},
		{shiftImm, 3, 0, 16},
		{loadWord, 1<<4 | 4, 4, 0}, // r4 = major
		{loadWord, 1<<4 | 5, 8, 0}, // r5 = minor
	}
	// Backwards, so that the first hit is the last rule. Access is granted when
	// all that is wanted is in an allowing rule, refused when any of it is in a
	// refusing one.
	for i := len(rules) - 1; i >= 0; i-- {
		test, err := deviceTest(&rules[i])
		if err != nil {
			return nil, err
		}
		result := int32(0)
		if rules[i].Allow {
			result = 1
		}
		body := append(test, instruction{moveImm, 0, 0, result}, instruction{exit, 0, 0, 0})
		for at := range body {
			if body[at].offset == -1 { // to the next rule
				body[at].offset = int16(len(body) - at - 1)
			}
		}
		code = append(code, body...)
		if len(test) == 0 {
			return code, nil // it fits always: what follows is never reached, which the verifier refuses
		}
	}
	return append(code, instruction{moveImm, 0, 0, 0}, instruction{exit, 0, 0, 0}), nil
}

// deviceTest jumps (offset -1, set later) if a rule does not fit.
func deviceTest(d *specs.LinuxDeviceCgroup) ([]instruction, error) {
	const notEqual, equal, moveReg, andImm = 0x55, 0x15, 0xbf, 0x57
	var test []instruction
	switch d.Type {
	case "a", "":
	case "b":
		test = append(test, instruction{notEqual, 2, -1, unix.BPF_DEVCG_DEV_BLOCK})
	case "c":
		test = append(test, instruction{notEqual, 2, -1, unix.BPF_DEVCG_DEV_CHAR})
	default:
		return nil, fmt.Errorf("cannot limit devices: unknown type %q", d.Type)
	}
	access := int32(0)
	for _, r := range d.Access {
		bit, ok := map[rune]int32{'r': unix.BPF_DEVCG_ACC_READ, 'w': unix.BPF_DEVCG_ACC_WRITE, 'm': unix.BPF_DEVCG_ACC_MKNOD}[r]
		if !ok {
			return nil, fmt.Errorf("cannot limit devices: unknown access %q", string(r))
		}
		access |= bit
	}
	const all = unix.BPF_DEVCG_ACC_READ | unix.BPF_DEVCG_ACC_WRITE | unix.BPF_DEVCG_ACC_MKNOD
	if access != all && access != 0 {
		test = append(test, instruction{moveReg, 3<<4 | 1, 0, 0}) // r1 = r3
		if d.Allow {
			test = append(test, instruction{andImm, 1, 0, ^access & all}, instruction{notEqual, 1, -1, 0})
		} else {
			test = append(test, instruction{andImm, 1, 0, access}, instruction{equal, 1, -1, 0})
		}
	}
	if d.Major != nil && *d.Major >= 0 {
		test = append(test, instruction{notEqual, 4, -1, int32(*d.Major)})
	}
	if d.Minor != nil && *d.Minor >= 0 {
		test = append(test, instruction{notEqual, 5, -1, int32(*d.Minor)})
	}
	return test, nil
}

// loadDeviceProgram calls bpf(2).
func loadDeviceProgram(code []instruction) (int, error) {
	raw := make([]byte, 0, len(code)*8)
	for _, i := range code {
		raw = append(raw, i.op, i.regs)
		raw = binary.NativeEndian.AppendUint16(raw, uint16(i.offset))
		raw = binary.NativeEndian.AppendUint32(raw, uint32(i.imm))
	}
	license := append([]byte("Apache-2.0"), 0)
	log := make([]byte, 64<<10)
	attr := struct {
		kind, count      uint32
		code, license    uint64
		logLevel, logLen uint32
		log              uint64
		version, flags   uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: uint64(uintptr(unsafe.Pointer(&raw[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(raw)
	runtime.KeepAlive(license)
	if errno == 0 {
		unix.CloseOnExec(int(fd))
		return int(fd), nil
	}
	// Once more, for what the verifier says.
	attr.logLevel, attr.logLen, attr.log = 1, uint32(len(log)), uint64(uintptr(unsafe.Pointer(&log[0])))
	unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(raw)
	runtime.KeepAlive(license)
	said := strings.TrimSpace(strings.TrimRight(string(log), "\x00"))
	if said == "" {
		return -1, errno
	}
	return -1, errors.Join(errno, errors.New(said))
}
