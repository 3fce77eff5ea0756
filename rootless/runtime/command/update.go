package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func setupUpdate(fs *flag.FlagSet) func(*global, []string) (int, error) {
	var file string
	fs.StringVar(&file, "resources", "", "file with linux.resources in JSON, - for standard input")
	fs.StringVar(&file, "r", "", "file with linux.resources in JSON, - for standard input")
	values := map[string]*string{}
	for name, about := range map[string]string{
		"memory": "memory limit", "memory-swap": "memory and swap limit", "memory-reservation": "memory that is kept from reclaim",
		"pids-limit": "number of processes", "cpu-quota": "microseconds in a period", "cpu-period": "microseconds of a period",
		"cpu-burst": "microseconds that may be saved up", "cpu-share": "relative weight", "cpu-idle": "1 is SCHED_IDLE",
		"cpuset-cpus": "CPUs to use", "cpuset-mems": "memory nodes to use", "blkio-weight": "relative weight of I/O",
		"cpu-rt-period": "not in cgroup version 2", "cpu-rt-runtime": "not in cgroup version 2",
		"kernel-memory": "not in cgroup version 2", "kernel-memory-tcp": "not in cgroup version 2",
		"l3-cache-schema": "not supported", "mem-bw-schema": "not supported",
	} {
		values[name] = fs.String(name, "", about)
	}
	return func(g *global, args []string) (int, error) {
		id, err := one(args)
		if err != nil {
			return 1, err
		}
		c, err := load(g, id)
		if err != nil {
			return 1, err
		}
		r := &specs.LinuxResources{}
		if file != "" {
			if err := readResources(file, r); err != nil {
				return 1, err
			}
		}
		if err := fromFlags(values, r); err != nil {
			return 1, err
		}
		return 0, c.update(r)
	}
}

func readResources(file string, r *specs.LinuxResources) error {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(os.Stdin)
	} else {
		data, err = os.ReadFile(file)
	}
	if err == nil {
		err = json.Unmarshal(data, r)
	}
	if err != nil {
		return fmt.Errorf("cannot read resources %q: %w", file, err)
	}
	return nil
}

// fromFlags puts the flags that are given over the resources.
func fromFlags(values map[string]*string, r *specs.LinuxResources) error {
	for name, value := range values {
		if *value == "" {
			continue
		}
		if err := setResource(r, name, *value); err != nil {
			return fmt.Errorf("cannot use --%s %s: %w", name, *value, err)
		}
	}
	return nil
}

func setResource(r *specs.LinuxResources, name, value string) error {
	if r.Memory == nil {
		r.Memory = &specs.LinuxMemory{}
	}
	if r.CPU == nil {
		r.CPU = &specs.LinuxCPU{}
	}
	var n int64
	var err error
	switch name {
	case "cpuset-cpus":
		r.CPU.Cpus = value
		return nil
	case "cpuset-mems":
		r.CPU.Mems = value
		return nil
	case "memory", "memory-swap", "memory-reservation":
		n, err = bytesOf(value)
	default:
		n, err = strconv.ParseInt(value, 10, 64)
	}
	if err != nil {
		return errors.New("not a number")
	}
	u := uint64(n)
	switch name {
	case "memory":
		r.Memory.Limit = &n
	case "memory-swap":
		r.Memory.Swap = &n
	case "memory-reservation":
		r.Memory.Reservation = &n
	case "pids-limit":
		r.Pids = &specs.LinuxPids{Limit: &n}
	case "cpu-quota":
		r.CPU.Quota = &n
	case "cpu-period":
		r.CPU.Period = &u
	case "cpu-burst":
		r.CPU.Burst = &u
	case "cpu-share":
		r.CPU.Shares = &u
	case "cpu-idle":
		r.CPU.Idle = &n
	case "blkio-weight":
		w := uint16(n)
		r.BlockIO = &specs.LinuxBlockIO{Weight: &w}
	default:
		return errors.New("it is not in cgroup version 2, or not supported")
	}
	return nil
}

// bytesOf reads a size with an optional k, m or g.
func bytesOf(s string) (int64, error) {
	lower := strings.TrimSuffix(strings.ToLower(s), "b")
	shift := 0
	if lower != "" {
		if i := strings.IndexByte("kmgt", lower[len(lower)-1]); i >= 0 {
			shift, lower = 10*(i+1), lower[:len(lower)-1]
		}
	}
	n, err := strconv.ParseInt(lower, 10, 64)
	return n << shift, err
}

// update writes limits of a container that is there.
func (c *container) update(r *specs.LinuxResources) error {
	if !c.alive() {
		return fmt.Errorf("cannot update container %q: container not running", c.ID)
	}
	// Swap is given together with memory, so it needs to know it.
	if m := r.Memory; m != nil && m.Swap != nil && *m.Swap > 0 && m.Limit == nil {
		if spec, err := c.config(); err == nil && spec.Linux.Resources != nil && spec.Linux.Resources.Memory != nil {
			m.Limit = spec.Linux.Resources.Memory.Limit
		}
	}
	values, err := limitFiles(r)
	if err != nil {
		return fmt.Errorf("cannot update container %q: %w", c.ID, err)
	}
	if !c.OwnCgroup && len(values) > 0 {
		return fmt.Errorf("cannot update container %q: it has no cgroup of its own", c.ID)
	}
	// From here on, unlimited is said as such: the old limit is to go.
	if r.Pids != nil && r.Pids.Limit != nil && *r.Pids.Limit == 0 {
		values["pids.max"] = "max"
	}
	if err := applyLimits(c.Cgroup, values); err != nil {
		return fmt.Errorf("cannot update container %q: %w", c.ID, err)
	}
	return nil
}
