package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// shown is the state with what runc's has beside it.
type shown struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	PID         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Owner       string            `json:"owner"`
}

func (c *container) show() shown {
	s := c.state()
	return shown{s.Version, s.ID, s.Pid, string(s.Status), s.Bundle, c.Rootfs, c.Created, s.Annotations, c.Owner}
}

func printJSON(v any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func stateVerb(g *global, args []string) (int, error) {
	id, err := one(args)
	if err != nil {
		return 1, err
	}
	c, err := load(g, id)
	if err != nil {
		return 1, err
	}
	return 0, printJSON(c.show())
}

func setupList(fs *flag.FlagSet) func(*global, []string) (int, error) {
	var format string
	var quiet bool
	fs.StringVar(&format, "format", "table", "table or json")
	fs.StringVar(&format, "f", "table", "table or json")
	fs.BoolVar(&quiet, "quiet", false, "IDs only")
	fs.BoolVar(&quiet, "q", false, "IDs only")
	return func(g *global, args []string) (int, error) {
		if len(args) > 0 {
			return 1, fmt.Errorf("cannot read command line: no argument is wanted, %q is given", args[0])
		}
		return 0, list(g, format, quiet)
	}
}

func list(g *global, format string, quiet bool) error {
	entries, err := os.ReadDir(g.root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot list containers: %w", err)
	}
	all := []shown{}
	for _, e := range entries {
		if c, err := load(g, e.Name()); err == nil {
			all = append(all, c.show())
		}
	}
	switch {
	case quiet:
		for _, c := range all {
			fmt.Println(c.ID)
		}
		return nil
	case format == "json":
		return json.NewEncoder(os.Stdout).Encode(all)
	case format != "table":
		return fmt.Errorf("cannot use format %q: neither table nor json", format)
	}
	w := tabwriter.NewWriter(os.Stdout, 12, 1, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.PID, c.Status, c.Bundle, c.Created.Format(time.RFC3339), c.Owner)
	}
	return w.Flush()
}

func setupPs(fs *flag.FlagSet) func(*global, []string) (int, error) {
	var format string
	fs.StringVar(&format, "format", "table", "table or json")
	fs.StringVar(&format, "f", "table", "table or json")
	return func(g *global, args []string) (int, error) {
		if len(args) == 0 {
			return 1, errors.New("cannot read command line: a container ID is wanted")
		}
		c, err := load(g, args[0])
		if err != nil {
			return 1, err
		}
		pids, err := c.processes()
		if err != nil {
			return 1, err
		}
		switch format {
		case "json":
			return 0, json.NewEncoder(os.Stdout).Encode(pids)
		case "table":
			return 0, psTable(pids, args[1:])
		}
		return 1, fmt.Errorf("cannot use format %q: neither table nor json", format)
	}
}

// processes are those of the container's cgroup; without one, those that share
// its PID namespace.
func (c *container) processes() ([]int, error) {
	if !c.alive() {
		return []int{}, nil
	}
	if c.OwnCgroup {
		pids, err := cgroupProcesses(c.Cgroup)
		if err != nil {
			return nil, fmt.Errorf("cannot list processes of container %q: %w", c.ID, err)
		}
		return pids, nil
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", c.PID))
	if err != nil {
		return nil, fmt.Errorf("cannot list processes of container %q: %w", c.ID, err)
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err == nil && own == namespace {
		return []int{c.PID}, nil
	}
	matches, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		return nil, err
	}
	pids := []int{}
	for _, m := range matches {
		if its, err := os.Readlink(m); err == nil && its == namespace {
			pid, _ := strconv.Atoi(strings.Split(m, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// psTable has ps(1) print all processes, and keeps the lines of ours.
func psTable(pids []int, args []string) error {
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	var stderr bytes.Buffer
	cmd := exec.Command("ps", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("cannot run ps: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	column := -1
	for i, title := range strings.Fields(lines[0]) {
		if title == "PID" {
			column = i
		}
	}
	if column < 0 {
		return errors.New("cannot list processes: what ps prints has no PID column")
	}
	ours := map[string]bool{}
	for _, pid := range pids {
		ours[strconv.Itoa(pid)] = true
	}
	fmt.Println(lines[0])
	for _, line := range lines[1:] {
		if fields := strings.Fields(line); len(fields) > column && ours[fields[column]] {
			fmt.Println(line)
		}
	}
	return nil
}

// writeSpec writes a configuration to be edited.
func writeSpec(f *os.File, s any) error {
	e := json.NewEncoder(f)
	e.SetIndent("", "\t")
	return e.Encode(s)
}
