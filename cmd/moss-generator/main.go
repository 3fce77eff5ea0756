// Command moss-generator turns the user's quadlet files into services, as a
// generator of the user's service manager: systemd.generator(7). It runs at each
// daemon-reload, so it links little and starts nothing.
//
//	moss-generator NORMAL-DIR [EARLY-DIR LATE-DIR]   what the service manager calls
//	moss-generator -dryrun                           print the services, and what is wrong
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/systemd/journal"
	"moss/systemd/quadlet"
	"moss/userns"
)

var version = "unknown" // the linker sets it

func main() {
	flags := flag.NewFlagSet("moss-generator", flag.ExitOnError)
	dry := flags.Bool("dryrun", false, "print the services and write nothing")
	flags.Bool("user", true, "for a user's service manager, which is all that moss generates for")
	quiet := flags.Bool("no-kmsg-log", false, "report on standard error, not to the journal")
	flags.Bool("v", false, "accepted for those who call podman's")
	show := flags.Bool("version", false, "print the version")
	_ = flags.Parse(os.Args[1:]) // exits
	switch {
	case *show:
		fmt.Println(version)
	case *dry:
		os.Exit(dryRun())
	case flags.NArg() < 1:
		fmt.Fprintln(os.Stderr, "moss-generator: want the directory for the services; see systemd.generator(7)")
		os.Exit(2)
	default:
		out := flags.Arg(0)
		// Where podman's generator makes services of the same files, those of the
		// directory for early ones count.
		if flags.NArg() > 1 && quadlet.HasGenerator("podman-user-generator") {
			out = flags.Arg(1)
		}
		os.Exit(generate(out, *quiet))
	}
}

func dirs() []string { return quadlet.Dirs(os.Getenv, os.Getuid()) }

func generate(out string, quiet bool) int {
	r := reporter{fd: -1}
	if !quiet && journal.Available(journal.Socket) == nil {
		r.fd, _ = journal.Open(100 * time.Millisecond) // without it, standard error
	}
	g := quadlet.Generator{Out: out, Moss: moss(), Report: r.report}
	if root, err := userns.FindRoot(); err == nil {
		g.Kept = filepath.Join(root, "units")
	} else {
		r.report("", quadlet.Problem{Path: out, Message: err.Error(), Warning: true})
	}
	if g.Run(dirs()) {
		return 1
	}
	return 0
}

func dryRun() (code int) {
	set := quadlet.Load(dirs())
	units := set.Convert(moss())
	for _, u := range units {
		if !u.Failed() {
			fmt.Printf("---%s---\n%s\n", u.Name, u.Text())
		}
	}
	for _, p := range quadlet.Problems(set, units) {
		fmt.Fprintln(os.Stderr, "moss-generator:", p)
		if !p.Warning {
			code = 1
		}
	}
	return code
}

// moss finds the program beside, or above, where the generator is installed:
// PREFIX/libexec/moss, or PREFIX/lib/systemd/user-generators. PODMAN names another
// one, as it does for podman's generator.
func moss() string {
	if p := os.Getenv("PODMAN"); p != "" {
		return p
	}
	self, err := os.Executable()
	if err == nil {
		dir := filepath.Dir(self)
		for _, p := range []string{"moss", "../../bin/moss", "../../../bin/moss"} {
			p = filepath.Join(dir, p)
			if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
				return p
			}
		}
	}
	return "/usr/bin/moss"
}

// reporter writes to the journal, as entries of the services: 'journalctl --user -u
// SERVICE' shows them.
type reporter struct{ fd int }

func (r reporter) report(service string, p quadlet.Problem) {
	if r.fd >= 0 {
		priority := "3"
		if p.Warning {
			priority = "4"
		}
		var e []byte
		for _, f := range [][2]string{{"MESSAGE", p.String()}, {"PRIORITY", priority}, {"SYSLOG_IDENTIFIER", "moss-generator"},
			{"USER_UNIT", service}, {"CODE_FILE", p.Path}, {"CODE_LINE", fmt.Sprint(p.Line)}} {
			if f[1] != "" && f[1] != "0" {
				e = journal.AppendField(e, f[0], []byte(strings.ToValidUTF8(f[1], "?")))
			}
		}
		if journal.Send(r.fd, journal.Socket, e, true) == nil {
			return
		}
	}
	_, _ = unix.Write(2, []byte("moss-generator: "+p.String()+"\n"))
}
