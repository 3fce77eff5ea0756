package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// IODevice are the limits of one block device; 0 is none.
type IODevice struct {
	Path                string // of the host
	Weight              uint16 // as IOWeight
	ReadBps, WriteBps   uint64 // bytes per second
	ReadIOps, WriteIOps uint64 // operations per second
}

func (l *limits) io(r Resources) {
	if r.IOWeight == 0 && len(r.IODevices) == 0 || !l.need("io", "disk input and output") {
		return
	}
	if r.IOWeight > 0 {
		l.weight("default", r.IOWeight)
	}
	for _, d := range r.IODevices {
		number, err := blockDevice(d.Path)
		if err != nil {
			l.fail(fmt.Errorf("cannot limit input and output of %q: %w", d.Path, err))
			return
		}
		if d.Weight > 0 {
			l.weight(number, d.Weight)
		}
		line := number
		for _, rate := range []struct {
			name  string
			value uint64
		}{{"rbps", d.ReadBps}, {"wbps", d.WriteBps}, {"riops", d.ReadIOps}, {"wiops", d.WriteIOps}} {
			if rate.value > 0 {
				line += " " + rate.name + "=" + strconv.FormatUint(rate.value, 10)
			}
		}
		if line != number {
			l.line("io.max", line)
		}
	}
}

// weight is of BFQ's file where there is one, which takes weights as v1 did, else
// of io.weight, which takes 1 to 10000.
func (l *limits) weight(whose string, weight uint16) {
	if _, err := os.Stat(filepath.Join(l.parent.Dir, "io.bfq.weight")); err == nil {
		l.line("io.bfq.weight", whose+" "+strconv.Itoa(int(weight)))
		return
	}
	if _, err := os.Stat(filepath.Join(l.parent.Dir, "io.weight")); err != nil {
		l.fail(errors.New("cannot weigh disk input and output: this kernel has neither the BFQ scheduler nor io.cost"))
		return
	}
	l.line("io.weight", whose+" "+strconv.Itoa(1+(int(weight)-10)*9999/990))
}

// line adds a line to a file that takes one line at a time.
func (l *limits) line(file, line string) {
	if have := l.files[file]; have != "" {
		line = have + "\n" + line
	}
	l.files[file] = line
}

// blockDevice is MAJOR:MINOR of a whole disk: the kernel limits no partitions.
func blockDevice(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return "", errors.New("it is not a block device")
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	sys := "/sys/dev/block/" + number
	if _, err := os.Stat(sys + "/partition"); err == nil {
		disk := "the disk"
		if target, err := os.Readlink(sys); err == nil {
			disk = "/dev/" + filepath.Base(filepath.Dir(target))
		}
		return "", fmt.Errorf("it is a partition, and limits hold for whole disks: name %s", disk)
	}
	return number, nil
}

// conf is what --cgroup-conf asks for.
func (l *limits) conf(r Resources) {
	for _, file := range slices.Sorted(maps.Keys(r.Conf)) {
		controller, _, _ := strings.Cut(file, ".")
		if slices.Contains(wanted, controller) && !l.need(controller, controller) {
			return
		}
		if _, err := os.Stat(filepath.Join(l.parent.Dir, file)); l.parent.Usable() && err != nil {
			l.fail(fmt.Errorf("cannot set %s: cgroups have no such control file here", file))
			return
		}
		if !l.parent.Usable() {
			l.fail(fmt.Errorf("cannot set %s: %w", file, l.parent.Why()))
			return
		}
		l.files[file] = r.Conf[file]
	}
}

// Apply writes limits into a cgroup. Unlike at the birth, where the monitor does
// it, this is for a container that runs.
func Apply(dir string, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		for line := range strings.SplitSeq(files[name], "\n") {
			if err := write(filepath.Join(dir, name), line); err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					controller, _, _ := strings.Cut(name, ".")
					return fmt.Errorf("cannot set %s of cgroup %q: it has no %s controller", name, dir, controller)
				}
				return fmt.Errorf("cannot set %s of cgroup %q to %q: %w", name, dir, line, err)
			}
		}
	}
	return nil
}
