package cli

import (
	"math"

	"moss/rootless/container"
)

// limitsView is the part of HostConfig that tells the limits. Where podman has a
// name for something that cgroup v2 does not limit, it is always 0.
type limitsView struct {
	CpuShares            uint64
	Memory               int64
	NanoCpus             int64
	CpuPeriod            uint64
	CpuQuota             int64
	CpuRealtimePeriod    uint64
	CpuRealtimeRuntime   int64
	CpusetCpus           string
	CpusetMems           string
	BlkioWeight          uint16
	BlkioWeightDevice    []weightView
	BlkioDeviceReadBps   []rateView
	BlkioDeviceWriteBps  []rateView
	BlkioDeviceReadIOps  []rateView
	BlkioDeviceWriteIOps []rateView
	DiskQuota            uint64
	KernelMemory         int64
	MemoryReservation    int64
	MemorySwap           int64
	MemorySwappiness     int64
	OomKillDisable       bool
	PidsLimit            int64
	CpuCount             uint64
	CpuPercent           uint64
	IOMaximumIOps        uint64
	IOMaximumBandwidth   uint64
	CgroupConf           map[string]string
}

type weightView struct {
	Path   string
	Weight uint16
}

type rateView struct {
	Path string
	Rate uint64
}

func limitsOf(r *container.Resources) limitsView {
	v := limitsView{
		CpuShares: r.CPUShares, Memory: r.Memory, CpuPeriod: r.CPUPeriod, CpuQuota: r.CPUQuota, CpusetCpus: r.CPUSetCPUs,
		CpusetMems: r.CPUSetMems, BlkioWeight: r.IOWeight, MemoryReservation: r.MemoryReservation, MemorySwap: r.MemorySwap,
		PidsLimit: 2048, CgroupConf: r.CgroupConf, BlkioWeightDevice: []weightView{}, BlkioDeviceReadBps: []rateView{},
		BlkioDeviceWriteBps: []rateView{}, BlkioDeviceReadIOps: []rateView{}, BlkioDeviceWriteIOps: []rateView{},
	}
	if r.PidsLimit != nil {
		v.PidsLimit = *r.PidsLimit
	}
	if r.Memory > 0 && r.MemorySwap == 0 {
		v.MemorySwap = 2 * r.Memory
	}
	if r.CPUs > 0 { // as the kernel is told: quota of a period of 100 ms
		v.CpuPeriod, v.CpuQuota = 100000, int64(math.Round(r.CPUs*100000))
	}
	if v.CpuQuota > 0 {
		period := v.CpuPeriod
		if period == 0 {
			period = 100000
		}
		v.NanoCpus = int64(1e9 * float64(v.CpuQuota) / float64(period))
	}
	add := func(to *[]rateView, path string, rate uint64) {
		if rate > 0 {
			*to = append(*to, rateView{path, rate})
		}
	}
	for _, d := range r.IODevices {
		if d.Weight > 0 {
			v.BlkioWeightDevice = append(v.BlkioWeightDevice, weightView{d.Path, d.Weight})
		}
		add(&v.BlkioDeviceReadBps, d.Path, d.ReadBps)
		add(&v.BlkioDeviceWriteBps, d.Path, d.WriteBps)
		add(&v.BlkioDeviceReadIOps, d.Path, d.ReadIOps)
		add(&v.BlkioDeviceWriteIOps, d.Path, d.WriteIOps)
	}
	return v
}
