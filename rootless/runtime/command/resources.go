package command

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// limitFiles translates resources, which are in the words of cgroup version 1,
// into the files of version 2; see the kernel's cgroup-v2.rst and the tables in
// OCI config-linux.md. What version 2 does not have is an error.
func limitFiles(r *specs.LinuxResources) (map[string]string, error) {
	out := map[string]string{}
	if r == nil {
		return out, nil
	}
	if err := memoryFiles(r.Memory, out); err != nil {
		return nil, err
	}
	if err := cpuFiles(r.CPU, out); err != nil {
		return nil, err
	}
	// 0 is "no limit" to Docker and podman, a negative one to the specification.
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit != 0 {
		out["pids.max"] = maximum(*r.Pids.Limit)
	}
	if err := blockFiles(r.BlockIO, out); err != nil {
		return nil, err
	}
	for _, h := range r.HugepageLimits {
		out["hugetlb."+h.Pagesize+".max"] = strconv.FormatUint(h.Limit, 10)
	}
	if n := r.Network; n != nil && (n.ClassID != nil && *n.ClassID != 0 || len(n.Priorities) > 0) {
		return nil, fmt.Errorf("cannot limit network: cgroup version 2 has no such controller")
	}
	rdma(r.Rdma, out)
	for file, value := range r.Unified {
		if strings.Contains(file, "/") || !strings.Contains(file, ".") {
			return nil, fmt.Errorf("cannot set %q: not a file of a cgroup", file)
		}
		out[file] = value
	}
	return out, nil
}

// maximum writes a limit: negative is none.
func maximum(n int64) string {
	if n < 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

func memoryFiles(m *specs.LinuxMemory, out map[string]string) error {
	if m == nil {
		return nil
	}
	if m.Limit != nil && *m.Limit != 0 {
		out["memory.max"] = maximum(*m.Limit)
	}
	if m.Reservation != nil && *m.Reservation != 0 {
		out["memory.low"] = maximum(*m.Reservation)
	}
	if m.Swap != nil && *m.Swap != 0 {
		// There it is memory and swap together, here swap alone.
		switch {
		case *m.Swap < 0:
			out["memory.swap.max"] = "max"
		case m.Limit == nil || *m.Limit <= 0:
			return fmt.Errorf("cannot limit swap to %d: it needs a memory limit", *m.Swap)
		case *m.Swap < *m.Limit:
			return fmt.Errorf("cannot limit swap to %d: it includes memory, whose limit is %d", *m.Swap, *m.Limit)
		default:
			out["memory.swap.max"] = strconv.FormatInt(*m.Swap-*m.Limit, 10)
		}
	}
	if m.Swappiness != nil {
		return fmt.Errorf("cannot set swappiness: cgroup version 2 has none")
	}
	if m.DisableOOMKiller != nil && *m.DisableOOMKiller {
		return fmt.Errorf("cannot disable the OOM killer: cgroup version 2 has no such switch")
	}
	return nil
}

func cpuFiles(c *specs.LinuxCPU, out map[string]string) error {
	if c == nil {
		return nil
	}
	if c.Shares != nil && *c.Shares != 0 {
		out["cpu.weight"] = strconv.FormatUint(weight(*c.Shares), 10)
	}
	if c.Quota != nil && *c.Quota != 0 || c.Period != nil && *c.Period != 0 {
		quota := "max"
		if c.Quota != nil && *c.Quota > 0 {
			quota = strconv.FormatInt(*c.Quota, 10)
		}
		if c.Period != nil && *c.Period != 0 {
			quota += " " + strconv.FormatUint(*c.Period, 10)
		}
		out["cpu.max"] = quota
	}
	if c.Burst != nil {
		out["cpu.max.burst"] = strconv.FormatUint(*c.Burst, 10)
	}
	if c.Idle != nil {
		out["cpu.idle"] = strconv.FormatInt(*c.Idle, 10)
	}
	if c.Cpus != "" {
		out["cpuset.cpus"] = c.Cpus
	}
	if c.Mems != "" {
		out["cpuset.mems"] = c.Mems
	}
	if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 || c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
		return fmt.Errorf("cannot limit realtime scheduling: cgroup version 2 has no such limit")
	}
	return nil
}

// weight maps shares (2 to 262144) to a weight (1 to 10000), as in OCI's table.
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

func blockFiles(b *specs.LinuxBlockIO, out map[string]string) error {
	if b == nil {
		return nil
	}
	if b.LeafWeight != nil && *b.LeafWeight != 0 {
		return fmt.Errorf("cannot set leaf weight: cgroup version 2 has none")
	}
	if b.Weight != nil && *b.Weight != 0 {
		out["io.weight"] = "default " + strconv.FormatUint(ioWeight(*b.Weight), 10)
	}
	for _, d := range b.WeightDevice {
		if d.Weight != nil {
			line(out, "io.weight", fmt.Sprintf("%d:%d %d", d.Major, d.Minor, ioWeight(*d.Weight)))
		}
	}
	for _, limit := range []struct {
		key     string
		devices []specs.LinuxThrottleDevice
	}{
		{"rbps", b.ThrottleReadBpsDevice}, {"wbps", b.ThrottleWriteBpsDevice},
		{"riops", b.ThrottleReadIOPSDevice}, {"wiops", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range limit.devices {
			rate := "max"
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			line(out, "io.max", fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, limit.key, rate))
		}
	}
	return nil
}

// ioWeight maps 10 to 1000 to 1 to 10000, as in OCI's table.
func ioWeight(w uint16) uint64 {
	w = min(max(w, 10), 1000)
	return 1 + (uint64(w)-10)*9999/990
}

// line adds a line to a file that is written line by line.
func line(out map[string]string, file, text string) {
	if out[file] != "" {
		text = out[file] + "\n" + text
	}
	out[file] = text
}

func rdma(limits map[string]specs.LinuxRdma, out map[string]string) {
	for device, l := range limits {
		text := device
		if l.HcaHandles != nil {
			text += fmt.Sprintf(" hca_handle=%d", *l.HcaHandles)
		}
		if l.HcaObjects != nil {
			text += fmt.Sprintf(" hca_object=%d", *l.HcaObjects)
		}
		line(out, "rdma.max", text)
	}
}
