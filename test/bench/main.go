// Command bench compares moss with podman, bwrap and crun where they are
// installed: paired, interleaved, as one unprivileged user, in one cgroup. It
// writes ratios, because a machine's mood changes from hour to hour but rarely
// between two runs side by side.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "`directory` of moss and box")
	out := flag.String("out", "-", "`file` for the results; - is standard output")
	quick := flag.Bool("quick", false, "5 pairs in place of 15, and no pull")
	pairs := flag.Int("pairs", 15, "pairs of each row")
	only := flag.String("only", "", "`regexp` of the rows to run")
	flag.Parse()
	if *quick {
		*pairs = 5
	}
	if os.Getuid() == 0 {
		fmt.Fprintln(os.Stderr, "bench: moss is for people without root: make bench runs this as one")
		os.Exit(2)
	}
	b, err := prepare(*bin, *pairs, *quick)
	if b != nil {
		go b.closeOnSignal()
	}
	if err == nil {
		b.only, err = regexp.Compile(*only)
	}
	if err == nil {
		err = b.run(*out)
	}
	if b != nil {
		b.closed.Do(b.close)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// closeOnSignal leaves nothing behind when the bench is interrupted.
func (b *bench) closeOnSignal() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	b.closed.Do(b.close)
	os.Exit(1)
}

// run measures every row and writes the table. A row that misses its must is
// told in the table; it is not an error of the bench.
func (b *bench) run(out string) error {
	var results []result
	for _, r := range b.rows() {
		if !b.only.MatchString(r.name) {
			continue
		}
		res := r.measure(b)
		fmt.Fprintln(os.Stderr, res.line())
		results = append(results, res)
	}
	w := io.Writer(os.Stdout)
	if out != "-" {
		f, err := os.Create(out)
		if err != nil {
			return err
		}
		defer f.Close()
		w = f
	}
	return b.write(w, results)
}

func (b *bench) write(w io.Writer, results []result) error {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	var s strings.Builder
	fmt.Fprintf(&s, "# Bench\n\nMade by `make bench` on %s: Linux %s, %d CPUs. Medians of %d pairs, interleaved, with a moment of rest before each; the smallest in parentheses.\n\n",
		time.Now().UTC().Format("2006-01-02"), strings.TrimSpace(string(kernel)), runtime.NumCPU(), b.pairs)
	for _, p := range []string{"moss", "podman", "bwrap", "crun", "conmon"} {
		if v := b.version(p); v != "" {
			fmt.Fprintf(&s, "- %s\n", v)
		}
	}
	s.WriteString("\n| what | moss | beside | ratio | must | stretch | |\n|---|---|---|---|---|---|---|\n")
	missed := 0
	for _, r := range results {
		fmt.Fprintln(&s, r.tableRow())
		if r.verdict() == "missed" {
			missed++
		}
	}
	fmt.Fprintf(&s, "\n%d rows, %d missed their must.\n", len(results), missed)
	_, err := io.WriteString(w, s.String())
	return err
}
