package rootless

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// topColumn is one thing that can be told of a process.
type topColumn struct {
	names  []string // descriptors, the plain one first
	header string
	value  func(p *topProcess) string
}

var allTopColumns = []topColumn{
	{[]string{"args", "cmd", "command", "%a"}, "COMMAND", (*topProcess).args},
	{[]string{"capamb"}, "AMBIENT CAPS", func(p *topProcess) string { return capabilities(p.status["CapAmb"]) }},
	{[]string{"capbnd"}, "BOUNDING CAPS", func(p *topProcess) string { return capabilities(p.status["CapBnd"]) }},
	{[]string{"capeff"}, "EFFECTIVE CAPS", func(p *topProcess) string { return capabilities(p.status["CapEff"]) }},
	{[]string{"capinh"}, "INHERITED CAPS", func(p *topProcess) string { return capabilities(p.status["CapInh"]) }},
	{[]string{"capprm"}, "PERMITTED CAPS", func(p *topProcess) string { return capabilities(p.status["CapPrm"]) }},
	{[]string{"comm", "ucomm", "%c"}, "COMMAND", func(p *topProcess) string { return p.comm }},
	{[]string{"etime", "%t"}, "ELAPSED", func(p *topProcess) string { return p.elapsed().Round(time.Millisecond).String() }},
	{[]string{"gid", "egid"}, "GID", func(p *topProcess) string { return strconv.Itoa(p.view.gid(p.ids("Gid", 1))) }},
	{[]string{"group", "%g"}, "GROUP", func(p *topProcess) string { return p.view.groupName(p.ids("Gid", 1)) }},
	{[]string{"groups"}, "GROUPS", (*topProcess).groups},
	{[]string{"hgid"}, "HGID", func(p *topProcess) string { return strconv.Itoa(p.view.hostGID(p.ids("Gid", 1))) }},
	{[]string{"hgroup"}, "HGROUP", func(p *topProcess) string { return p.view.hostGroupName(p.ids("Gid", 1)) }},
	{[]string{"hpid"}, "HPID", func(p *topProcess) string { return strconv.Itoa(p.pid) }},
	{[]string{"huid"}, "HUID", func(p *topProcess) string { return strconv.Itoa(p.view.hostUID(p.ids("Uid", 1))) }},
	{[]string{"huser"}, "HUSER", func(p *topProcess) string { return p.view.hostUserName(p.ids("Uid", 1)) }},
	{[]string{"label"}, "LABEL", (*topProcess).label},
	{[]string{"nice", "ni", "%n"}, "NI", func(p *topProcess) string { return p.stat(19) }},
	{[]string{"pcpu", "%cpu", "c"}, "%CPU", (*topProcess).cpuShare},
	{[]string{"pgid", "pgrp", "%r"}, "PGID", func(p *topProcess) string { return strconv.Itoa(p.inside(p.statInt(5))) }},
	{[]string{"pid", "%p"}, "PID", func(p *topProcess) string { return strconv.Itoa(p.ns) }},
	{[]string{"pmem", "%mem"}, "%MEM", (*topProcess).memoryShare},
	{[]string{"ppid"}, "PPID", func(p *topProcess) string { return strconv.Itoa(p.inside(p.statInt(4))) }},
	{[]string{"rgroup"}, "RGROUP", func(p *topProcess) string { return p.view.groupName(p.ids("Gid", 0)) }},
	{[]string{"rss", "rssize", "rsz"}, "RSS", func(p *topProcess) string { return kilobytes(p.status["VmRSS"]) }},
	{[]string{"ruser"}, "RUSER", func(p *topProcess) string { return p.view.userName(p.ids("Uid", 0)) }},
	{[]string{"seccomp"}, "SECCOMP", (*topProcess).seccomp},
	{[]string{"state", "s", "stat"}, "STATE", func(p *topProcess) string { return p.stat(3) }},
	{[]string{"stime", "start", "lstart"}, "STIME", func(p *topProcess) string { return p.started().Format("2006-01-02 15:04:05") }},
	{[]string{"time", "cputime", "%x"}, "TIME", func(p *topProcess) string { return p.cpuTime().String() }},
	{[]string{"tty", "tt", "tname", "%y"}, "TTY", func(p *topProcess) string { return terminal(p.statInt(7)) }},
	{[]string{"uid", "euid"}, "UID", func(p *topProcess) string { return strconv.Itoa(p.view.uid(p.ids("Uid", 1))) }},
	{[]string{"user", "uname", "euser", "%u"}, "USER", func(p *topProcess) string { return p.view.userName(p.ids("Uid", 1)) }},
	{[]string{"vsz", "vsize", "%z"}, "VSZ", func(p *topProcess) string { return kilobytes(p.status["VmSize"]) }},
}

// args is the command line; in brackets the name when there is none, as ps does.
func (p *topProcess) args() string {
	data, err := os.ReadFile(p.file("cmdline"))
	if err != nil || len(data) == 0 {
		return "[" + p.comm + "]"
	}
	return strings.Join(strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00"), " ")
}

func (p *topProcess) groups() string {
	var names []string
	for field := range strings.FieldsSeq(p.status["Groups"]) {
		if gid, err := strconv.Atoi(field); err == nil {
			names = append(names, p.view.groupName(gid))
		}
	}
	return strings.Join(names, ",")
}

func (p *topProcess) label() string {
	data, err := os.ReadFile(p.file("attr/current"))
	if err != nil {
		return "?"
	}
	return strings.TrimRight(string(data), "\x00\n")
}

func (p *topProcess) seccomp() string {
	switch p.status["Seccomp"] { // see prctl(2), PR_GET_SECCOMP
	case "0":
		return "disabled"
	case "1":
		return "strict"
	case "2":
		return "filter"
	}
	return "?"
}

// clockTick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every
// architecture that Go knows.
const clockTick = time.Second / 100

func (p *topProcess) cpuTime() time.Duration {
	return time.Duration(p.statInt(14)+p.statInt(15)) * clockTick
}

// elapsed is how long the process has lived: its start is in ticks of
// CLOCK_BOOTTIME.
func (p *topProcess) elapsed() time.Duration {
	return max(0, p.view.uptime-time.Duration(p.statInt(22))*clockTick)
}

func (p *topProcess) started() time.Time { return p.view.now.Add(-p.elapsed()) }

func (p *topProcess) cpuShare() string {
	elapsed := p.elapsed()
	if elapsed == 0 {
		return "0.000"
	}
	return fmt.Sprintf("%.3f", 100*p.cpuTime().Seconds()/elapsed.Seconds())
}

func (p *topProcess) memoryShare() string {
	var info unix.Sysinfo_t
	rss, err := strconv.ParseFloat(kilobytes(p.status["VmRSS"]), 64)
	if err != nil || unix.Sysinfo(&info) != nil || info.Totalram == 0 {
		return "0.0"
	}
	return fmt.Sprintf("%.1f", 100*rss*1024/(float64(info.Totalram)*float64(info.Unit)))
}

// kilobytes reads "1234 kB".
func kilobytes(s string) string {
	number, _, _ := strings.Cut(s, " ")
	if number == "" {
		return "0"
	}
	return number
}

// terminal names a device number of /proc/PID/stat: minor numbers above 255
// are split around the major; see proc_pid_stat(5).
func terminal(device int) string {
	major, minor := device>>8&0xfff, device&0xff|device>>12&0xfff00
	switch {
	case device == 0:
		return "?"
	case major >= 136 && major <= 143: // Unix98 pseudoterminals
		return "pts/" + strconv.Itoa((major-136)<<8+minor)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	case major == 4:
		return "ttyS" + strconv.Itoa(minor-64)
	case major == 5 && minor == 1:
		return "console"
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// capabilities names the bits of a Cap line of /proc/PID/status.
func capabilities(mask string) string {
	bits, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return "?"
	}
	if bits == 0 {
		return "none"
	}
	last := len(capabilityNames) - 1
	if data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap"); err == nil {
		last, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	}
	if bits == 1<<(last+1)-1 {
		return "full"
	}
	var names []string
	for bit := range 64 {
		if bits&(1<<bit) == 0 {
			continue
		}
		if bit < len(capabilityNames) {
			names = append(names, capabilityNames[bit])
		} else {
			names = append(names, strconv.Itoa(bit))
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// capabilityNames by number; see include/uapi/linux/capability.h.
var capabilityNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID
	SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE
	SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
	SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM
	BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
