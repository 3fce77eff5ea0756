package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// CompatCmd is "moss compat", which makes docs/compat.md.
type CompatCmd struct {
	Globals
	Facts string `arg:"" help:"The list of podman's commands and flags."`
}

// Run prints the page.
func (cmd *CompatCmd) Run(ctx context.Context, c *call) error {
	data, err := os.ReadFile(cmd.Facts)
	if err != nil {
		return err
	}
	list, err := parseCompat(data)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", cmd.Facts, err)
	}
	w := bufio.NewWriter(c.Out)
	fmt.Fprint(w, compatHead)
	for _, p := range list {
		verdicts, err := p.verdicts()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n## %s\n\n", strings.Join(p.names, ", "))
		for _, v := range verdicts {
			if v.flag == "" {
				fmt.Fprintf(w, "The command: %s.\n", v)
				if len(verdicts) > 1 {
					fmt.Fprint(w, "\n| flag | moss |\n|---|---|\n")
				}
				continue
			}
			fmt.Fprintf(w, "| `%s` | %s |\n", v.flag, v)
		}
		if more := p.more(list); len(more) > 0 {
			fmt.Fprintf(w, "\nmoss has besides: `%s`.\n", strings.Join(more, "`, `"))
		}
	}
	pages, err := filepath.Glob(filepath.Join(filepath.Dir(cmd.Facts), "*.md"))
	if err != nil {
		return err
	}
	for _, page := range pages { // what is no command
		data, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\n%s", data)
	}
	return w.Flush()
}

const compatHead = `<!-- Made from test/compat/podman.txt and the command grammar by 'moss compat'; do not edit. -->
# moss and podman, flag by flag

Every ` + "`container`" + ` command of podman 5 and every flag of it. *Same* is what podman does. What *differs* says how.
What is *refused* ends with exit code 125 and the reason that stands here; no flag is accepted and ignored.
`

// podmanCommand is a command of podman, or several that share flags.
type podmanCommand struct {
	names []string // of moss's table
	note  string   // how moss's differs
	flags []podmanFlag
}

type podmanFlag struct {
	name  string // without dashes
	value bool   // it takes one
	short rune
	note  string
}

func (f podmanFlag) String() string {
	s := "--" + f.name
	if f.value {
		s += "="
	}
	if f.short != 0 {
		s += ", -" + string(f.short)
	}
	return s
}

// parseCompat reads test/compat/podman.txt, whose head says how it is written.
func parseCompat(data []byte) ([]podmanCommand, error) {
	var out []podmanCommand
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		line, note, _ := strings.Cut(lines.Text(), "|")
		note = strings.TrimSpace(note)
		switch words := strings.Fields(line); {
		case len(words) == 0 || line[0] == '#':
		case line[0] != ' ':
			c := podmanCommand{note: note}
			for _, name := range strings.Split(line, ",") {
				c.names = append(c.names, strings.TrimSpace(name))
			}
			out = append(out, c)
		case len(out) == 0 || !strings.HasPrefix(words[0], "--"):
			return nil, fmt.Errorf("line %q is neither a command nor its flag", line)
		default:
			f := podmanFlag{name: strings.Trim(words[0], "-="), value: strings.HasSuffix(words[0], "="), note: note}
			if len(words) > 1 {
				f.short = rune(words[1][1])
			}
			out[len(out)-1].flags = append(out[len(out)-1].flags, f)
		}
	}
	return out, nil
}

// verdict is what moss makes of a command, or of a flag of it.
type verdict struct {
	flag   string // "" is the command itself
	status string // same, differs, refused or missing
	how    string
}

func (v verdict) String() string {
	if v.how == "" {
		return v.status
	}
	return v.status + ": " + v.how
}

// verdicts are that of the command, and if moss has it, those of its flags.
// Commands that share flags must agree about them.
func (p *podmanCommand) verdicts() (out []verdict, err error) {
	for _, name := range p.names {
		list, err := p.verdictsOf(name)
		if err != nil {
			return nil, err
		}
		for n := range out {
			if list[n] != out[n] {
				return nil, fmt.Errorf("%s do not share flag %s", strings.Join(p.names, " and "), out[n].flag)
			}
		}
		out = list
	}
	return out, nil
}

func (p *podmanCommand) verdictsOf(name string) ([]verdict, error) {
	judge := func(flag string, have bool, note string) verdict {
		reason, isRefused := refused(name, flag)
		switch {
		case have && note != "":
			return verdict{status: "differs", how: note}
		case have:
			return verdict{status: "same"}
		case isRefused:
			return verdict{status: "refused", how: reason}
		}
		return verdict{status: "missing"}
	}
	e := find(name)
	out := []verdict{judge("", e != nil, p.note)}
	if e == nil {
		return out, nil
	}
	flags, err := e.flags()
	if err != nil {
		return nil, err
	}
	for _, f := range p.flags {
		flag := flags[f.name]
		v := judge("--"+f.name, flag != nil, f.note)
		v.flag = f.String()
		if flag != nil && (flag.IsBool() == f.value || f.short != 0 && flag.Short != f.short) {
			return nil, fmt.Errorf("%s --%s: podman has it as %s", name, f.name, f)
		}
		out = append(out, v)
	}
	return out, nil
}

// flags are those of the command's grammar, aliases too.
func (e *entry) flags() (map[string]*kong.Flag, error) {
	parser, err := newParser("moss "+e.Name, e.New())
	if err != nil {
		return nil, err
	}
	out := map[string]*kong.Flag{}
	for _, flag := range parser.Model.Flags {
		for _, name := range append([]string{flag.Name}, flag.Aliases...) {
			out[name] = flag
		}
	}
	return out, nil
}

// more are the flags of a command that podman does not have. Those of commands
// that share flags are said with each command's own.
func (p *podmanCommand) more(list []podmanCommand) (out []string) {
	e := find(p.names[0])
	if e == nil || len(p.names) > 1 {
		return nil
	}
	known := map[string]bool{"root": true, "runroot": true, "volumepath": true, "log-level": true, "registries-conf": true, "cgroup-manager": true, "help": true}
	for _, q := range list {
		if slices.Contains(q.names, p.names[0]) {
			for _, f := range q.flags {
				known[f.name] = true
			}
		}
	}
	for _, f := range leafFields(reflect.TypeOf(e.New()).Elem()) {
		if _, isArgument := f.Tag.Lookup("arg"); !isArgument && !known[longName(f.StructField)] {
			out = append(out, "--"+longName(f.StructField))
		}
	}
	return out
}
