package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/rootless/container"
)

// StatsCmd is "moss stats".
type StatsCmd struct {
	Globals
	All       bool     `short:"a" help:"Show containers that do not run too."`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Interval  string   `short:"i" help:"Seconds between two readings; 5 by default." placeholder:"SECONDS"`
	Latest    bool     `short:"l" help:"The container that was created last."`
	NoReset   bool     `help:"Leave what was printed before on the terminal."`
	NoStream  bool     `help:"Print once."`
	NoTrunc   bool     `help:"Show IDs in full."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	interval time.Duration
}

const textStats = `On a terminal the table is drawn again at every interval, with bars, until it is interrupted. A dash stands for what
nobody knows: the memory, processes or disk traffic of a container whose cgroup does not count them is added up over
its processes, where that is possible.

The first CPU % is that since the start of the container, the others are of the time between two readings.

Fields of --format are ID, Name, CPUPerc, AvgCPU, CPUNano, CPUSystemNano, UpTime, MemUsage, MemUsageBytes, MemPerc,
MemLimit, NetIO, NetInput, NetOutput, BlockIO, BlockInput, BlockOutput and PIDS; "json" prints the table.`

func (cmd *StatsCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[StatsCmd]()}
	cmd.interval = 5 * time.Second
	v.one("interval", cmd.Interval, func(s string) error {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 {
			return fmt.Errorf("it is not a number of seconds")
		}
		cmd.interval = time.Duration(n) * time.Second
		return nil
	})
	given := 0
	for _, is := range []bool{cmd.All, cmd.Latest, len(cmd.Container) > 0} {
		if is {
			given++
		}
	}
	v.check(given > 1, "--all, --latest and names of containers cannot be combined")
	return v.err
}

// interruptible: it goes on until then.
func (cmd *StatsCmd) interruptible() bool { return !cmd.NoStream }

// Run reads, prints, and waits for the next time.
func (cmd *StatsCmd) Run(ctx context.Context, c *call) error {
	before := map[string]rootless.Usage{}
	rows, err := cmd.read(c, before)
	if err != nil {
		return err
	}
	screen := cmd.screen(c)
	if err := cmd.print(c.Out, screen, rows); err != nil || cmd.NoStream {
		return err
	}
	var resized chan os.Signal
	if screen != nil {
		resized = make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		defer signal.Stop(resized)
	}
	tick := time.NewTicker(cmd.interval) // what the user asked for
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // interrupted: that is how it ends
		case <-resized:
		case <-tick.C:
			if rows, err = cmd.read(c, before); err != nil {
				return err
			}
		}
		if err := cmd.print(c.Out, screen, rows); err != nil {
			return err
		}
	}
}

// read looks at the containers, and remembers what they have used.
func (cmd *StatsCmd) read(c *call, before map[string]rootless.Usage) ([]statsRow, error) {
	var list []*container.Container
	var err error
	if cmd.Latest || len(cmd.Container) > 0 {
		list, err = c.findAll(cmd.Container, nil, cmd.Latest, false)
	} else {
		list, err = c.Engine.All()
	}
	if err != nil {
		return nil, err
	}
	rows := []statsRow{}
	for _, ctr := range list {
		row := statsRow{ctr: ctr, full: cmd.NoTrunc}
		if row.now, row.runs = c.Engine.Stats(ctr); row.runs {
			row.last = before[ctr.Spec.ID]
			before[ctr.Spec.ID] = row.now
		} else if !cmd.All && !cmd.Latest && len(cmd.Container) == 0 {
			continue
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// screen is the terminal that the table is drawn on again and again; nil for none.
func (cmd *StatsCmd) screen(c *call) *os.File {
	f, ok := c.Out.(*os.File)
	if !ok || cmd.NoStream || cmd.NoReset || cmd.Format != "" || !isTerminal(f) {
		return nil
	}
	return f
}

// The control sequences of ECMA-48 that a table is drawn with.
const (
	cursorHome = "\x1b[H"
	eraseLine  = "\x1b[K"
	eraseBelow = "\x1b[J"
)

func (cmd *StatsCmd) print(w io.Writer, screen *os.File, rows []statsRow) error {
	if screen == nil {
		return cmd.table(false).Print(w, cmd.Format, rows, statsJSON(rows))
	}
	width, height, err := term.GetSize(int(screen.Fd()))
	if err != nil || width <= 0 {
		width, height = 80, 24
	}
	var text bytes.Buffer
	if err := cmd.table(true).Print(&text, "", rows, nil); err != nil {
		return err
	}
	// At once, so that it does not flicker.
	out := cursorHome
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	if len(lines) > height {
		lines = lines[:height]
	}
	for i, line := range lines {
		if runes := []rune(line); len(runes) > width {
			line = string(runes[:width])
		}
		if i > 0 {
			out += "\r\n"
		}
		out += line + eraseLine
	}
	out += eraseBelow
	if len(lines) < height {
		out += "\r\n"
	}
	_, err = io.WriteString(w, out)
	return err
}

// table is podman's; with bars in place of the last two columns.
func (cmd *StatsCmd) table(bars bool) format.Table {
	columns := []format.Column{
		{Header: "ID", Cell: ".ID"}, {Header: "NAME", Cell: ".Name"}, {Header: "CPU %", Cell: ".CPUPerc"},
		{Header: "MEM USAGE / LIMIT", Cell: ".MemUsage"}, {Header: "MEM %", Cell: ".MemPerc"},
		{Header: "NET IO", Cell: ".NetIO"}, {Header: "BLOCK IO", Cell: ".BlockIO"}, {Header: "PIDS", Cell: ".PIDS"},
	}
	if bars {
		columns[2].Cell, columns[4].Cell = ".CPUBar", ".MemBar"
	} else {
		columns = append(columns, format.Column{Header: "CPU TIME", Cell: ".UpTime"}, format.Column{Header: "AVG CPU %", Cell: ".AvgCPU"})
	}
	return format.Table{Columns: columns, Headers: map[string]string{
		"MemUsageBytes": "MEM USAGE", "MemLimit": "MEM LIMIT", "NetInput": "NET INPUT", "NetOutput": "NET OUTPUT",
		"BlockInput": "BLOCK INPUT", "BlockOutput": "BLOCK OUTPUT", "CPUNano": "CPU NANO", "CPUSystemNano": "CPU SYSTEM NANO",
		"ContainerID": "CONTAINER ID", "PIDs": "PIDS", "CPU": "CPU %",
	}}
}

// statsRow is a container as templates of stats see it, with podman's names.
type statsRow struct {
	ctr       *container.Container
	runs      bool
	now, last rootless.Usage
	full      bool
}

// unknown stands for what nobody knows.
const unknown = "--"

// ID is shortened unless --no-trunc is given.
func (r statsRow) ID() string {
	if r.full {
		return r.ctr.Spec.ID
	}
	return format.ShortID(r.ctr.Spec.ID)
}
func (r statsRow) ContainerID() string { return r.ctr.Spec.ID }
func (r statsRow) Container() string   { return r.ID() }
func (r statsRow) Name() string        { return r.ctr.Spec.Name }

// cpu is the CPU time per time, 1 for one CPU: since the last reading, or else the start.
func (r statsRow) cpu() (float64, bool) {
	if r.last.At.IsZero() || !r.last.Started.Equal(r.now.Started) || r.last.CPU > r.now.CPU {
		return r.average()
	}
	wall := r.now.At.Sub(r.last.At)
	if !r.runs || r.now.CPU < 0 || wall <= 0 {
		return 0, false
	}
	return float64(r.now.CPU-r.last.CPU) / float64(wall), true
}

func (r statsRow) average() (float64, bool) {
	wall := r.now.At.Sub(r.now.Started)
	if !r.runs || r.now.CPU < 0 || wall <= 0 {
		return 0, false
	}
	return float64(r.now.CPU) / float64(wall), true
}

func (r statsRow) memory() (float64, bool) {
	if !r.runs || r.now.Memory < 0 || r.now.MemoryLimit <= 0 {
		return 0, false
	}
	return float64(r.now.Memory) / float64(r.now.MemoryLimit), true
}

func percent(f float64, ok bool) string {
	if !ok {
		return unknown
	}
	return strconv.FormatFloat(100*f, 'f', 2, 64) + "%"
}

// bar is a percentage with a bar of ten cells, of which whole is all.
func bar(f float64, ok bool, whole float64) string {
	if !ok {
		return unknown
	}
	eighths := int(min(1, max(0, f/whole))*80 + 0.5)
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return fmt.Sprintf("%7s ▕%s%s▏", percent(f, ok), text, strings.Repeat(" ", 10-len([]rune(text))))
}

func (r statsRow) CPUBar() string {
	f, ok := r.cpu()
	return bar(f, ok, float64(runtime.NumCPU()))
}
func (r statsRow) MemBar() string {
	f, ok := r.memory()
	return bar(f, ok, 1)
}
func (r statsRow) CPUPerc() string      { return percent(r.cpu()) }
func (r statsRow) CPU() string          { return r.CPUPerc() }
func (r statsRow) AvgCPU() string       { return percent(r.average()) }
func (r statsRow) MemPerc() string      { return percent(r.memory()) }
func (r statsRow) CPUNano() int64       { return max(0, int64(r.now.CPU)) }
func (r statsRow) CPUSystemNano() int64 { return int64(r.now.CPUSystem) }
func (r statsRow) UpTime() string {
	if !r.runs || r.now.CPU < 0 {
		return unknown
	}
	return r.now.CPU.Round(time.Microsecond).String()
}

// size is a number of bytes, if it is known.
func (r statsRow) size(n int64, binary bool) string {
	switch {
	case !r.runs || n < 0:
		return unknown
	case binary:
		return binarySize(n)
	}
	return format.Size(n, "")
}

func (r statsRow) pair(a, b int64) string {
	if !r.runs || a < 0 && b < 0 {
		return unknown + " / " + unknown
	}
	return r.size(a, false) + " / " + r.size(b, false)
}

func (r statsRow) MemUsage() string { return r.pair(r.now.Memory, r.now.MemoryLimit) }
func (r statsRow) MemUsageBytes() string {
	return r.size(r.now.Memory, true) + " / " + r.size(r.now.MemoryLimit, true)
}
func (r statsRow) MemLimit() int64     { return max(0, r.now.MemoryLimit) }
func (r statsRow) NetIO() string       { return r.pair(r.now.Received, r.now.Sent) }
func (r statsRow) NetInput() string    { return r.size(r.now.Received, false) }
func (r statsRow) NetOutput() string   { return r.size(r.now.Sent, false) }
func (r statsRow) BlockIO() string     { return r.pair(r.now.Read, r.now.Written) }
func (r statsRow) BlockInput() string  { return r.size(r.now.Read, false) }
func (r statsRow) BlockOutput() string { return r.size(r.now.Written, false) }
func (r statsRow) PIDS() string {
	if !r.runs || r.now.Pids < 0 {
		return unknown
	}
	return strconv.FormatInt(r.now.Pids, 10)
}
func (r statsRow) PIDs() string { return r.PIDS() }

// binarySize is a size in powers of 1024.
func binarySize(n int64) string {
	f, unit := float64(n), 0
	for f >= 1024 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	return strconv.FormatFloat(f, 'g', 4, 64) + [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// statsView is a container in "stats --format json", with podman's names.
type statsView struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	CPUTime    string `json:"cpu_time"`
	CPUPercent string `json:"cpu_percent"`
	AvgCPU     string `json:"avg_cpu"`
	MemUsage   string `json:"mem_usage"`
	MemPercent string `json:"mem_percent"`
	NetIO      string `json:"net_io"`
	BlockIO    string `json:"block_io"`
	Pids       string `json:"pids"`
}

func statsJSON(rows []statsRow) []statsView {
	out := []statsView{}
	for _, r := range rows {
		out = append(out, statsView{
			r.ID(), r.Name(), r.UpTime(), r.CPUPerc(), r.AvgCPU(), r.MemUsage(), r.MemPerc(), r.NetIO(), r.BlockIO(), r.PIDS(),
		})
	}
	return out
}
