package cli

import (
	"fmt"
	"math"
	"reflect"
	"strconv"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
)

// LimitFlags are the limits of a container that can also be changed while it runs.
type LimitFlags struct {
	Memory            string   `short:"m" help:"Memory limit." placeholder:"SIZE" group:"Resources"`
	MemorySwap        string   `help:"Limit of memory and swap together; -1 for none." placeholder:"SIZE" group:"Resources"`
	MemoryReservation string   `help:"Memory that it may keep when memory is short." placeholder:"SIZE" group:"Resources"`
	CPUs              string   `name:"cpus" help:"Number of CPUs." placeholder:"N" group:"Resources"`
	CPUPeriod         string   `name:"cpu-period" help:"Length of the period that --cpu-quota is of, in microseconds; 100000 when not given." placeholder:"MICROSECONDS" group:"Resources"`
	CPUQuota          string   `name:"cpu-quota" help:"CPU time in each period, in microseconds; -1 for no limit." placeholder:"MICROSECONDS" group:"Resources"`
	CPUShares         string   `name:"cpu-shares" short:"c" help:"Relative weight of CPU time; 1024 is the usual." placeholder:"N" group:"Resources"`
	CPUSetCPUs        string   `name:"cpuset-cpus" help:"CPUs to run on." placeholder:"LIST" group:"Resources"`
	CPUSetMems        string   `name:"cpuset-mems" help:"Memory nodes to use." placeholder:"LIST" group:"Resources"`
	PidsLimit         *int64   `help:"Limit of processes; -1 for none." placeholder:"N" group:"Resources"`
	BlkioWeight       string   `help:"Relative weight of disk input and output: 10 to 1000." placeholder:"WEIGHT" group:"Resources"`
	BlkioWeightDevice []string `sep:"none" help:"The same for one device." placeholder:"DEVICE:WEIGHT" group:"Resources"`
	DeviceReadBps     []string `name:"device-read-bps" sep:"none" help:"Limit of bytes read from a device in a second." placeholder:"DEVICE:SIZE" group:"Resources"`
	DeviceWriteBps    []string `name:"device-write-bps" sep:"none" help:"Limit of bytes written to a device in a second." placeholder:"DEVICE:SIZE" group:"Resources"`
	DeviceReadIOps    []string `name:"device-read-iops" sep:"none" help:"Limit of reads from a device in a second." placeholder:"DEVICE:N" group:"Resources"`
	DeviceWriteIOps   []string `name:"device-write-iops" sep:"none" help:"Limit of writes to a device in a second." placeholder:"DEVICE:N" group:"Resources"`
}

// CgroupFlags say which cgroup a container gets, and what else is written into it.
type CgroupFlags struct {
	Cgroups      string   `words:"enabled disabled no-conmon split" help:"enabled; disabled to make no cgroup; no-conmon to leave the monitor in the caller's; split to make the container's in the caller's." placeholder:"MODE" group:"Resources"`
	CgroupParent string   `help:"Cgroup in which to make the container's." placeholder:"PATH" group:"Resources"`
	CgroupConf   []string `sep:"none" help:"Value for a control file of cgroup v2." placeholder:"FILE=VALUE" group:"Resources"`
}

// read lays what was given over res.
func (f *LimitFlags) read(r *flagValues, res *container.Resources) {
	f.readMemory(r, res)
	f.readCPU(r, res)
	r.one("cpuset-cpus", f.CPUSetCPUs, func(v string) error {
		res.CPUSetCPUs = v
		return syntax.CPUSet(v)
	})
	r.one("cpuset-mems", f.CPUSetMems, func(v string) error {
		res.CPUSetMems = v
		return syntax.CPUSet(v)
	})
	if f.PidsLimit != nil {
		res.PidsLimit = f.PidsLimit
		r.one("pids-limit", strconv.FormatInt(*f.PidsLimit, 10), func(string) error {
			if *f.PidsLimit < -1 {
				return fmt.Errorf("it is neither a number of processes nor -1")
			}
			return nil
		})
	}
	f.readIO(r, res)
}

func (f *LimitFlags) readMemory(r *flagValues, res *container.Resources) {
	r.one("memory", f.Memory, func(v string) (err error) {
		res.Memory, err = syntax.Size(v)
		return err
	})
	r.one("memory-swap", f.MemorySwap, func(v string) (err error) {
		if v == "-1" {
			res.MemorySwap = -1
			return nil
		}
		if res.MemorySwap, err = syntax.Size(v); err == nil && res.MemorySwap < res.Memory {
			return fmt.Errorf("it is less than --memory %s", f.Memory)
		}
		return err
	})
	r.check(f.MemorySwap != "" && f.MemorySwap != "-1" && res.Memory == 0, "--memory-swap needs --memory")
	r.one("memory-reservation", f.MemoryReservation, func(v string) (err error) {
		if res.MemoryReservation, err = syntax.Size(v); err == nil && res.Memory > 0 && res.MemoryReservation > res.Memory {
			return fmt.Errorf("it is more than the memory limit")
		}
		return err
	})
}

func (f *LimitFlags) readCPU(r *flagValues, res *container.Resources) {
	r.check(f.CPUs != "" && f.CPUPeriod != "", "--cpus cannot be combined with --cpu-period")
	r.check(f.CPUs != "" && f.CPUQuota != "", "--cpus cannot be combined with --cpu-quota")
	r.one("cpus", f.CPUs, func(v string) (err error) {
		if res.CPUs, err = strconv.ParseFloat(v, 64); err != nil || !(res.CPUs >= 0 && res.CPUs < 1e6) {
			return fmt.Errorf("it is not a number of CPUs")
		}
		res.CPUQuota, res.CPUPeriod = 0, 0
		return nil
	})
	r.one("cpu-period", f.CPUPeriod, func(v string) (err error) {
		if res.CPUPeriod, err = strconv.ParseUint(v, 10, 64); err != nil || res.CPUPeriod < 1000 || res.CPUPeriod > 1e6 {
			return fmt.Errorf("it is not between 1000 and 1000000 microseconds")
		}
		if res.CPUs > 0 { // of a container that is changed: the share stays
			res.CPUs, res.CPUQuota = 0, int64(math.Round(res.CPUs*float64(res.CPUPeriod)))
		}
		return nil
	})
	r.one("cpu-quota", f.CPUQuota, func(v string) (err error) {
		if res.CPUQuota, err = strconv.ParseInt(v, 10, 64); err != nil || res.CPUQuota < 1000 && res.CPUQuota != -1 && res.CPUQuota != 0 {
			return fmt.Errorf("it is neither 1000 microseconds or more nor -1")
		}
		res.CPUs = 0
		return nil
	})
	r.one("cpu-shares", f.CPUShares, func(v string) (err error) {
		if res.CPUShares, err = strconv.ParseUint(v, 10, 64); err != nil {
			return fmt.Errorf("it is not a whole number")
		}
		return nil
	})
}

func (f *LimitFlags) readIO(r *flagValues, res *container.Resources) {
	r.one("blkio-weight", f.BlkioWeight, func(v string) (err error) {
		res.IOWeight, err = syntax.IOWeight(v)
		return err
	})
	device := func(path string) *container.IODevice {
		for i := range res.IODevices {
			if res.IODevices[i].Path == path {
				return &res.IODevices[i]
			}
		}
		res.IODevices = append(res.IODevices, container.IODevice{Path: path})
		return &res.IODevices[len(res.IODevices)-1]
	}
	r.each("blkio-weight-device", f.BlkioWeightDevice, func(v string) error {
		path, value, err := syntax.IODevice(v)
		if err == nil {
			device(path).Weight, err = syntax.IOWeight(value)
		}
		return err
	})
	for _, rate := range []struct {
		name   string
		values []string
		field  func(*container.IODevice) *uint64
		read   func(string) (uint64, error)
	}{
		{"device-read-bps", f.DeviceReadBps, func(d *container.IODevice) *uint64 { return &d.ReadBps }, syntax.IOBytes},
		{"device-write-bps", f.DeviceWriteBps, func(d *container.IODevice) *uint64 { return &d.WriteBps }, syntax.IOBytes},
		{"device-read-iops", f.DeviceReadIOps, func(d *container.IODevice) *uint64 { return &d.ReadIOps }, syntax.IOCount},
		{"device-write-iops", f.DeviceWriteIOps, func(d *container.IODevice) *uint64 { return &d.WriteIOps }, syntax.IOCount},
	} {
		r.each(rate.name, rate.values, func(v string) error {
			path, value, err := syntax.IODevice(v)
			if err == nil {
				*rate.field(device(path)), err = rate.read(value)
			}
			return err
		})
	}
}

func (f *CgroupFlags) read(r *flagValues, res *container.Resources) {
	r.one("cgroups", f.Cgroups, oneOf("enabled", "disabled", "no-conmon", "split"))
	if res.CgroupsMode = f.Cgroups; f.Cgroups == "enabled" {
		res.CgroupsMode = ""
	}
	r.check(f.CgroupParent != "" && (f.Cgroups == "disabled" || f.Cgroups == "split"), "--cgroup-parent cannot be combined with --cgroups %s", f.Cgroups)
	res.CgroupParent = f.CgroupParent
	r.each("cgroup-conf", f.CgroupConf, func(v string) error {
		key, value, err := syntax.CgroupConf(v)
		if res.CgroupConf == nil {
			res.CgroupConf = map[string]string{}
		}
		res.CgroupConf[key] = value
		return err
	})
	limits := *res
	limits.CgroupsMode, limits.CgroupParent = "", ""
	r.check(f.Cgroups == "disabled" && !reflect.DeepEqual(limits, container.Resources{}), "limits need a cgroup: they cannot be combined with --cgroups disabled")
}
