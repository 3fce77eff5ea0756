package cli

import (
	"context"
	"fmt"
	"os/exec"
	"reflect"
	"runtime"

	"golang.org/x/sys/unix"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/storage/image"
	"moss/userns/slack"
)

// SystemGcCmd is "moss system gc".
type SystemGcCmd struct {
	Globals
	All        bool   `short:"a" help:"Remove also what waits for the next try of a pull that was cut short."`
	Background bool   `short:"b" help:"Return at once; the work goes on."`
	DryRun     bool   `short:"n" help:"Show what would be removed, and leave it."`
	Format     string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Quiet      bool   `short:"q" help:"Print nothing."`
}

func (cmd *SystemGcCmd) prepare() error {
	if cmd.Background && cmd.DryRun {
		return usagef("--background cannot be combined with --dry-run, of which nobody would see the result")
	}
	return format.Suits(cmd.Format, reflect.TypeFor[garbageRow]())
}

// Run gives way to everybody else who wants the processor or the disk.
func (cmd *SystemGcCmd) Run(ctx context.Context, c *call) error {
	if cmd.Background {
		return cmd.detach()
	}
	giveWay()
	found, err := c.Engine.Collect(ctx, rootless.CollectOptions{DryRun: cmd.DryRun, All: cmd.All})
	if cmd.Quiet {
		return err
	}
	if perr := cmd.print(c, found); err == nil {
		err = perr
	}
	return err
}

// ioprio_set(2): who may read and write only while nobody else does.
const (
	ioprioWhoProcess = 1
	ioprioIdle       = 3 << 13
)

// giveWay lowers the priority of this process and of those that it starts; where it
// cannot, the work is only done faster.
func giveWay() {
	// A priority is a thread's, and its children's.
	runtime.LockOSThread()
	unix.Setpriority(unix.PRIO_PROCESS, 0, 19)
	unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, 0, ioprioIdle)
}

// detach starts another moss that does the work.
func (cmd *SystemGcCmd) detach() error {
	args := []string{"system", "gc", "--quiet"}
	if cmd.All {
		args = append(args, "--all")
	}
	work := exec.Command("/proc/self/exe", args...)
	work.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := slack.Exactly(work.Start); err != nil {
		return fmt.Errorf("cannot go on in the background: %w", err)
	}
	return work.Process.Release()
}

// garbageRow is one line.
type garbageRow struct {
	Kind, Path string
	Size       byteCount
}

func (cmd *SystemGcCmd) print(c *call, found []image.Garbage) error {
	rows := []garbageRow{}
	var sum int64
	for _, g := range found {
		rows = append(rows, garbageRow{g.Kind, g.Path, byteCount(g.Bytes)})
		sum += g.Bytes
	}
	table := format.Table{Columns: []format.Column{{Header: "KIND", Cell: ".Kind"}, {Header: "SIZE", Cell: ".Size"}, {Header: "PATH", Cell: ".Path"}}}
	if cmd.Format != "" {
		return table.Print(c.Out, cmd.Format, rows, rows)
	}
	if len(rows) > 0 {
		if err := table.Print(c.Out, "", rows, rows); err != nil {
			return err
		}
	}
	verb := "Removed"
	if cmd.DryRun {
		verb = "Would remove"
	}
	fmt.Fprintf(c.Out, "%s: %d, %s\n", verb, len(rows), format.Size(sum, ""))
	return nil
}
