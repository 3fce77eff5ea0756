package completions

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Man renders one page for each command, and moss(1): roff by file name.
func Man(tree []Command, globals []*kong.Flag) map[string]string {
	pages := map[string]string{"moss.1": overviewPage(tree, globals), "moss.conf.5": configPage(), "moss-unit.5": unitPage()}
	for _, c := range tree {
		pages[pageName(c.Name)+".1"] = commandPage(c)
	}
	return pages
}

func pageName(command string) string { return "moss-" + strings.ReplaceAll(command, " ", "-") }

// page collects the lines of one man page; see man(7).
type page struct{ strings.Builder }

func newPage(name, help string) *page {
	return startPage(name, help, `1 "" moss "User Commands"`)
}

func startPage(name, help, section string) *page {
	p := &page{}
	fmt.Fprintf(p, ".\\\" Made from the command grammar by 'moss man'; do not edit.\n")
	fmt.Fprintf(p, ".TH %s %s\n", strings.ToUpper(name), section)
	p.section("NAME")
	fmt.Fprintf(p, "%s \\- %s\n", roff(name), roff(lowerFirst(help)))
	return p
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", title) }

// text writes paragraphs.
func (p *page) text(s string) {
	for _, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		fmt.Fprintf(p, ".PP\n%s\n", roff(strings.Join(strings.Fields(paragraph), " ")))
	}
}

// code writes lines as they are.
func (p *page) code(s string) { fmt.Fprintf(p, ".PP\n.RS 4\n.nf\n%s\n.fi\n.RE\n", roff(s)) }

func (p *page) term(term, text string) { fmt.Fprintf(p, ".TP\n%s\n%s\n", term, roff(text)) }

func (p *page) flags(flags []*kong.Flag) {
	for _, f := range flags {
		var names []string
		if f.Short != 0 {
			names = append(names, fmt.Sprintf("\\fB\\-%c\\fR", f.Short))
		}
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			s := "\\fB\\-\\-" + roff(name) + "\\fR"
			if !f.IsBool() {
				s += "=\\fI" + roff(f.PlaceHolder) + "\\fR"
			}
			names = append(names, s)
		}
		p.term(strings.Join(names, ", "), f.Help)
	}
}

func commandPage(c Command) string {
	p := newPage(pageName(c.Name), c.Help)
	p.section("SYNOPSIS")
	for _, name := range c.names() {
		fmt.Fprintf(p, ".PP\n\\fBmoss %s\\fR [\\fIFLAGS\\fR] %s\n", roff(name), synopsis(c.Usage))
	}
	p.section("DESCRIPTION")
	p.text(c.Help + ".")
	if c.Text != "" {
		p.text(c.Text)
	}
	p.section("OPTIONS")
	p.flags(c.flags())
	if c.Example != "" {
		p.section("EXAMPLES")
		p.code(c.Example)
	}
	p.exitStatus(c.Name)
	p.section("SEE ALSO")
	fmt.Fprint(p, ".BR moss (1)\n")
	return p.String()
}

// synopsis sets the words in capitals in italics.
func synopsis(usage string) string {
	var b strings.Builder
	word := ""
	flush := func() {
		if word != "" {
			b.WriteString("\\fI" + word + "\\fR")
		}
		word = ""
	}
	for _, r := range usage {
		if r >= 'A' && r <= 'Z' {
			word += string(r)
			continue
		}
		flush()
		b.WriteString(roff(string(r)))
	}
	flush()
	return b.String()
}

// exitStatus is the same table everywhere, without what cannot happen.
func (p *page) exitStatus(command string) {
	p.section("EXIT STATUS")
	p.term("0", "Done.")
	switch command {
	case "run", "start", "attach", "exec", "unshare":
		p.term("125", "moss itself failed.")
		p.term("126", "The program cannot be run.")
		p.term("127", "The program is not there.")
		p.term("128+\\fIn\\fR", "Signal n ended the program.")
		p.term("other", "The exit code of the program.")
		return
	case "rm", "volume rm", "rmi":
		p.term("1", "What was to be removed is not there.")
	case "doctor":
		p.term("1", "Something that is needed does not work.")
	}
	if strings.HasSuffix(command, "exists") {
		p.term("1", "It does not exist.")
	}
	switch command {
	case "rm":
		p.term("2", "A container runs, or is paused.")
	case "rmi", "volume rm":
		p.term("2", "A container uses it.")
	}
	p.term("125", "moss failed.")
}

func overviewPage(tree []Command, globals []*kong.Flag) string {
	p := newPage("moss", "Run containers without root and without a daemon")
	p.section("SYNOPSIS")
	fmt.Fprint(p, "\\fBmoss\\fR [\\fIFLAGS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]\n")
	p.section("DESCRIPTION")
	p.text(`moss pulls images, and creates, runs and looks after containers, as the user who calls it. Commands, flags and
output are those of podman(1).

Everything belongs to one user. Inside a container, root is that user, and the other users are the subordinate IDs that
/etc/subuid and /etc/subgid give him; see subuid(5).`)
	var groups []string
	for _, c := range tree {
		if !c.Hidden && !slices.Contains(groups, c.Group) {
			groups = append(groups, c.Group)
		}
	}
	for _, group := range groups {
		p.section(strings.ToUpper(group))
		for _, c := range tree {
			if c.Group == group && !c.Hidden {
				fmt.Fprintf(p, ".TP\n.BR %s (1)\n%s.\n", roff(pageName(c.Name)), roff(c.Help))
			}
		}
	}
	p.section("GLOBAL OPTIONS")
	p.flags(globals)
	p.exitStatus("run")
	p.section("ENVIRONMENT")
	p.term("\\fBMOSS_ROOT\\fR", "As --root.")
	p.term("\\fBMOSS_VOLUMES\\fR", "As --volumepath.")
	p.term("\\fBMOSS_RUN\\fR", "As --runroot.")
	p.term("\\fBMOSS_LOG\\fR", "As --log-level.")
	p.term("\\fBMOSS_LIBEXEC\\fR", "Where moss finds its helper programs.")
	p.section("FILES")
	p.term("\\fI~/.config/moss/moss.conf\\fR", "The user's configuration; see moss.conf(5). 'moss config' shows what is in effect.")
	p.term("\\fI~/.local/share/moss\\fR", "Images, containers and volumes.")
	p.term("\\fI$XDG_RUNTIME_DIR/moss\\fR", "What a reboot takes away.")
	return p.String()
}

// roff hides what has a meaning in roff.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
