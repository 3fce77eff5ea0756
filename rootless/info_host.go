package rootless

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/oci"
)

// hostInfo is what does not depend on the engine.
func hostInfo(ctx context.Context) HostInfo {
	memory := meminfo()
	h := HostInfo{
		Arch: goruntime.GOARCH, OS: goruntime.GOOS, CPUs: goruntime.NumCPU(), CPUUtilization: utilization(),
		Distribution: distribution(), Kernel: kernelRelease(), LogDriver: "k8s-file", LinkMode: "static",
		IDMappings: IDMappings{UIDMap: mappedIDs("/proc/self/uid_map"), GIDMap: mappedIDs("/proc/self/gid_map")},
		MemFree:    memory["MemFree"], MemTotal: memory["MemTotal"],
		SwapFree: memory["SwapFree"], SwapTotal: memory["SwapTotal"],
		Uptime:      uptime(),
		Monitor:     Program{Name: "moss-monitor", Path: Helper("moss-monitor")},
		OCIRuntime:  programAt(ctx, "moss-runtime", Helper("moss-runtime")),
		Pasta:       program(ctx, "pasta"),
		Slirp4netns: program(ctx, "slirp4netns"),
		Security:    security(),
	}
	h.Hostname, _ = os.Hostname()
	return h
}

// program looks a program up and asks it for its version.
func program(ctx context.Context, name string) Program {
	path, err := exec.LookPath(name)
	if err != nil {
		return Program{}
	}
	return programAt(ctx, name, path)
}

func programAt(ctx context.Context, name, path string) Program {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, path, "--version").Output()
	version, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return Program{Name: name, Path: path, Version: version}
}

func kernelRelease() string {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// distribution reads os-release(5).
func distribution() Distribution {
	values := map[string]string{}
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			values[key] = strings.Trim(value, `"'`)
		}
		break
	}
	if values["ID"] == "" {
		values["ID"] = "unknown"
	}
	return Distribution{Distribution: values["ID"], Version: values["VERSION_ID"], Codename: values["VERSION_CODENAME"]}
}

// meminfo reads /proc/meminfo, in bytes.
func meminfo() map[string]int64 {
	values := map[string]int64{}
	data, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			values[key] = n * 1024
		}
	}
	return values
}

// utilization reads the first line of /proc/stat; see proc_stat(5).
func utilization() Utilization {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	var all float64
	var times []float64
	for field := range strings.FieldsSeq(strings.TrimPrefix(line, "cpu")) {
		n, _ := strconv.ParseFloat(field, 64)
		times = append(times, n)
		if len(times) <= 8 { // guests are counted in user already
			all += n
		}
	}
	if len(times) < 5 || all == 0 {
		return Utilization{}
	}
	percent := func(n float64) float64 { return float64(int(n/all*10000)) / 100 }
	return Utilization{User: percent(times[0] + times[1]), System: percent(times[2]), Idle: percent(times[3] + times[4])}
}

func uptime() string {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return ""
	}
	d := time.Duration(t.Nano())
	text := fmt.Sprintf("%dh %dm %.2fs", int(d.Hours()), int(d.Minutes())%60, d.Seconds()-float64(int(d.Minutes())*60))
	if d >= 24*time.Hour {
		text += fmt.Sprintf(" (approximately %.2f days)", d.Hours()/24)
	}
	return text
}

func security() Security {
	s := Security{Rootless: true}
	if apparmor, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err == nil {
		s.AppArmor = strings.HasPrefix(string(apparmor), "Y")
	}
	_, err := os.Stat("/sys/fs/selinux/enforce")
	s.SELinux = err == nil
	_, err = os.Stat("/proc/sys/kernel/seccomp/actions_avail")
	s.Seccomp = err == nil
	// As root of the machine, which moss is not made for but can be.
	if maps := mappedIDs("/proc/self/uid_map"); len(maps) > 0 && maps[0].Host == 0 {
		s.Rootless = false
	}
	if kernel, err := oci.KernelCapabilities(); err == nil {
		bounding, _, _ := oci.Capabilities(&container.Spec{}, kernel)
		s.Capabilities = strings.Join(bounding, ",")
	}
	return s
}

// cgroupVersion is v2 where the one tree of cgroup v2 is mounted, also beside v1.
func cgroupVersion() string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	switch {
	case strings.Contains(string(data), " - cgroup2 ") && strings.Contains(string(data), " - cgroup "):
		return "v2 (hybrid)"
	case strings.Contains(string(data), " - cgroup2 "):
		return "v2"
	case strings.Contains(string(data), " - cgroup "):
		return "v1"
	}
	return "none"
}

// searchRegistries are those that short image names are looked for in.
func (e *Engine) searchRegistries(ctx context.Context) map[string][]string {
	found := map[string][]string{}
	if r, err := ReadConfig(ctx, e.Paths.Run); err == nil {
		if list := r.Config.List("registries.unqualified-search-registries"); len(list) > 0 {
			found["search"] = list
		}
	}
	return found
}
