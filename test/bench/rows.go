package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// noTarget marks a row that is only looked at.
const noTarget = -1

// rows is the table. The targets are the project's own; they speak of ratios
// against Debian 12's podman 4.3.1.
func (b *bench) rows() []row {
	rows := b.runRows()
	rows = append(rows, b.verbRows()...)
	rows = append(rows, b.listRows()...)
	rows = append(rows, b.memoryRows()...)
	rows = append(rows, b.networkRows()...)
	return append(rows, b.imageRows()...)
}

func (b *bench) runRows() []row {
	run := func(name string, extra ...string) side {
		args := append(append([]string{name, "run", "--rm"}, extra...), image, "true")
		return side{name: name, timed: b.command(args...)}
	}
	warm := run("podman", "--network", "bridge")
	keep := b.kept("podman", "bridged", "--network", "bridge")
	warm.before, warm.name = keep, "podman, warm bridge"
	return []row{
		{name: "run --rm", must: 0.12, stretch: 0.08, moss: run("moss"), other: run("podman")},
		{name: "run --rm, warm bridge", must: 0.10, stretch: 0.07, moss: run("moss"), other: warm},
		{name: "run --rm --network none", must: 0.12, stretch: 0.08, moss: run("moss", "--network", "none"), other: run("podman", "--network", "none")},
		{name: "run --rm --network host", must: 0.12, stretch: 0.08, moss: run("moss", "--network", "host"), other: run("podman", "--network", "host")},
		{name: "run --rm / bwrap --unshare-all", must: 3.5, stretch: 2.3, moss: run("moss"), other: side{name: "bwrap", timed: b.bwrap}},
		{name: "run --rm / crun run", must: 0.75, stretch: 0.55, moss: run("moss"), other: side{name: "crun", timed: b.crun}},
		{name: "12 runs, 4 in parallel", must: 0.12, stretch: 0.08, moss: side{name: "moss", timed: b.twelve("moss")}, other: side{name: "podman", timed: b.twelve("podman")}},
	}
}

// kept starts a container once, on the first call.
func (b *bench) kept(program, name string, extra ...string) func(int) error {
	return once(func() error {
		args := append(append([]string{program, "run", "-d", "--name", name}, extra...), image, "sleep", "100000")
		return b.spawn(args...)
	})
}

// once does it on the first call, and remembers how that went.
func once(do func() error) func(int) error {
	first := sync.OnceValue(do)
	return func(int) error { return first() }
}

func (b *bench) twelve(program string) func(int) error {
	return func(int) error {
		errs := make([]error, 4)
		var running sync.WaitGroup
		for lane := range errs {
			running.Go(func() {
				for range 3 {
					errs[lane] = errors.Join(errs[lane], b.spawn(program, "run", "--rm", image, "true"))
				}
			})
		}
		running.Wait()
		return errors.Join(errs...)
	}
}

func (b *bench) bwrap(int) error {
	root, err := b.rootDir()
	if err != nil {
		return err
	}
	return b.spawn("bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true")
}

// crun runs the bare bundle with the seccomp profile that moss and podman use. It
// has no cgroup and no network, which is to its advantage.
func (b *bench) crun(i int) error {
	bundle := filepath.Join(b.dir, "bundle")
	if _, err := os.Stat(bundle); err != nil {
		if err := b.writeBundle(bundle); err != nil {
			return err
		}
	}
	return b.spawn("crun", "--cgroup-manager=disabled", "--root", filepath.Join(b.dir, "crun"), "run", "--no-new-keyring", "--bundle", bundle, fmt.Sprint("c", i))
}

func (b *bench) writeBundle(bundle string) error {
	root, err := b.rootDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return err
	}
	if err := b.spawn("crun", "spec", "--rootless", "--bundle", bundle); err != nil {
		return err
	}
	file := filepath.Join(bundle, "config.json")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec specs.Spec
	if err := json.Unmarshal(text, &spec); err != nil {
		return err
	}
	spec.Root.Path, spec.Process.Args, spec.Process.Terminal = root, []string{"/bin/true"}, false
	if spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(&spec); err != nil {
		return err
	}
	if text, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}

// verbRows: the verbs one by one, with each side's default network.
func (b *bench) verbRows() []row {
	pair := func(name string, of func(program string) side) row {
		moss, podman := of("moss"), of("podman")
		moss.name, podman.name = "moss", "podman"
		return row{name: name, must: 0.12, stretch: 0.08, moss: moss, other: podman}
	}
	create := func(p string) func(int) error {
		return b.command(p, "create", "--name", "v{}", image, "sleep", "100000")
	}
	detach := func(p string) func(int) error {
		return b.command(p, "run", "-d", "--name", "v{}", image, "sleep", "100000")
	}
	remove := func(p string) func(int) error { return b.command(p, "rm", "-f", "-t", "0", "v{}") }
	return []row{
		pair("run -d", func(p string) side { return side{timed: detach(p), after: remove(p)} }),
		pair("create", func(p string) side { return side{timed: create(p), after: remove(p)} }),
		pair("start", func(p string) side {
			return side{before: create(p), timed: b.command(p, "start", "v{}"), after: remove(p)}
		}),
		pair("exec", func(p string) side {
			return side{before: b.kept(p, "kept-exec"), timed: b.command(p, "exec", "kept-exec", "true")}
		}),
		pair("stop -t 0", func(p string) side {
			return side{before: detach(p), timed: b.command(p, "stop", "-t", "0", "v{}"), after: remove(p)}
		}),
		pair("rm", func(p string) side { return side{before: create(p), timed: b.command(p, "rm", "v{}")} }),
		b.startRow("start of a created one / run -d", 1, 0.8, create("moss")),
		b.startRow("start of a warm one / run -d", 0.5, 0.3, b.command("moss", "create", "--warm", "--name", "v{}", image, "sleep", "100000")),
	}
}

// startRow compares the start of a container that is there with moss's own run.
func (b *bench) startRow(name string, must, stretch float64, before func(int) error) row {
	return row{name: name, must: must, stretch: stretch,
		moss: side{name: "moss", before: before, timed: b.command("moss", "start", "v{}"), after: b.command("moss", "rm", "-f", "-t", "0", "v{}")},
		other: side{name: "moss run -d", timed: b.command("moss", "run", "-d", "--name", "w{}", image, "sleep", "100000"),
			after: b.command("moss", "rm", "-f", "-t", "0", "w{}")}}
}

// listRows are ps with 1 and with 50 running.
func (b *bench) listRows() []row {
	running := func(program string, n int) func(int) error {
		return once(func() error {
			if err := b.spawn(program, "rm", "-fa", "-t", "0"); err != nil {
				return err
			}
			for i := range n {
				if err := b.spawn(program, "run", "-d", "--network", "none", "--name", fmt.Sprint("many", i), image, "sleep", "100000"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var rows []row
	for _, n := range []int{1, 50} {
		of := func(p string) side { return side{name: p, before: running(p, n), timed: b.command(p, "ps")} }
		rows = append(rows, row{name: fmt.Sprintf("ps, %d running", n), must: 0.12, stretch: 0.07, moss: of("moss"), other: of("podman")})
	}
	return rows
}

func (b *bench) memoryRows() []row {
	uss := func(program, process string) side {
		return side{name: process, before: b.kept(program, "kept-uss"), value: func(int) (float64, error) { return private(process) }}
	}
	rss := func(p string) side { return side{name: p, value: b.peak(p, "run", "--rm", image, "true")} }
	return []row{
		{name: "private memory of a monitor", unit: "KiB", must: 2, stretch: 0.25, pairs: 3, moss: uss("moss", "moss-monitor"), other: uss("podman", "conmon")},
		{name: "peak memory of run --rm", unit: "KiB", must: 0.35, stretch: 0.2, pairs: 5, moss: rss("moss"), other: rss("podman")},
		{name: "processes per bridged container, beside its own and the monitor", unit: "processes", pairs: 2, moss: side{name: "moss", value: b.extraProcesses}},
		{name: "fsyncs in run --rm", unit: "calls", pairs: 2, moss: side{name: "moss", value: b.fsyncs}},
	}
}

// extraProcesses starts five bridged containers and counts what else appeared.
func (b *bench) extraProcesses(i int) (float64, error) {
	const n = 5
	if err := b.spawn("moss", "run", "-d", "--name", "first", image, "sleep", "100000"); err != nil {
		return 0, err
	}
	before := len(processes())
	for j := range n {
		if err := b.spawn("moss", "run", "-d", "--name", fmt.Sprint("extra", j), image, "sleep", "100000"); err != nil {
			return 0, err
		}
	}
	grown := len(processes()) - before
	names := []string{"moss", "rm", "-f", "-t", "0", "first"}
	for j := range n {
		names = append(names, fmt.Sprint("extra", j))
	}
	return float64(grown)/n - 2, b.spawn(names...)
}

var syncCall = regexp.MustCompile(`\b(fsync|fdatasync|syncfs|sync|sync_file_range)\(`)

// fsyncs counts the calls that wait for a disk, with strace where it is installed.
func (b *bench) fsyncs(int) (float64, error) {
	trace := filepath.Join(b.dir, "trace")
	if err := b.spawn("strace", "-f", "-qq", "-o", trace, "-e", "trace=fsync,fdatasync,syncfs,sync,sync_file_range", "moss", "run", "--rm", image, "true"); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return 0, err
	}
	return float64(len(syncCall.FindAll(text, -1))), nil
}

// imageRows: what is done with images.
func (b *bench) imageRows() []row {
	load := func(p string) side {
		clear := once(func() error { return b.spawn(p, "rm", "-fa", "-t", "0") })
		return side{name: p, before: func(i int) error { return errors.Join(clear(i), b.spawn(p, "rmi", "-f", image)) }, timed: b.command(p, "load", "-q", "-i", b.archive)}
	}
	rows := []row{{name: "load, one small layer", must: noTarget, stretch: noTarget, pairs: 5, moss: load("moss"), other: load("podman")}}
	if !b.quick {
		rows = append(rows, b.loadRow())
		rows = append(rows, b.pullRows()...)
		rows = append(rows, b.pushRows()...)
	}
	return append(rows, b.nameRows()...)
}
