package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Unknown is the value of a number that the cgroup does not have, because its
// controller is not delegated; NoLimit that of a limit that is not set.
const (
	Unknown int64 = -1
	NoLimit int64 = -2
)

// Numbers are what a cgroup has used and may use.
type Numbers struct {
	CPU, CPUUser, CPUSystem time.Duration // always known
	Memory                  int64         // bytes, without what the page cache can give back at once
	MemoryCurrent           int64         // bytes, with it
	MemoryPeak, MemoryLimit int64
	Swap, SwapLimit         int64
	Pids, PidsLimit         int64
	Read, Written           int64 // bytes of block devices
	OOMKills                int64
}

// Stat reads the numbers of a cgroup.
func Stat(dir string) (Numbers, error) {
	if _, err := os.Stat(dir); err != nil {
		return Numbers{}, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	cpu := keyed(file("cpu.stat"))
	n := Numbers{
		CPU: micros(cpu["usage_usec"]), CPUUser: micros(cpu["user_usec"]), CPUSystem: micros(cpu["system_usec"]),
		MemoryCurrent: number(file("memory.current")), Memory: Unknown,
		MemoryPeak: number(file("memory.peak")), MemoryLimit: number(file("memory.max")),
		Swap: number(file("memory.swap.current")), SwapLimit: number(file("memory.swap.max")),
		Pids: number(file("pids.current")), PidsLimit: number(file("pids.max")),
		Read: Unknown, Written: Unknown, OOMKills: Unknown,
	}
	if n.MemoryCurrent >= 0 {
		// As docker and podman show it: inactive file pages do not count.
		inactive, _ := strconv.ParseInt(keyed(file("memory.stat"))["inactive_file"], 10, 64)
		n.Memory = max(0, n.MemoryCurrent-inactive)
	}
	if kills, ok := keyed(file("memory.events"))["oom_kill"]; ok {
		n.OOMKills, _ = strconv.ParseInt(kills, 10, 64)
	}
	if data, err := os.ReadFile(file("io.stat")); err == nil {
		n.Read, n.Written = traffic(string(data))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	return n, nil
}

func micros(s string) time.Duration {
	n, _ := strconv.ParseInt(s, 10, 64)
	return time.Duration(n) * time.Microsecond
}

// number reads a file of one number or "max".
func number(path string) int64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return Unknown
	}
	s := strings.TrimSpace(string(data))
	if s == "max" {
		return NoLimit
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return Unknown
	}
	return n
}

// traffic adds up the lines "8:0 rbytes=1 wbytes=2 …" of io.stat.
func traffic(stat string) (read, written int64) {
	for word := range strings.FieldsSeq(stat) {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.ParseInt(value, 10, 64)
		switch key {
		case "rbytes":
			read += n
		case "wbytes":
			written += n
		}
	}
	return read, written
}
