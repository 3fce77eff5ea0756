package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// HelpCmd is "moss help".
type HelpCmd struct {
	Globals
	Command []string `arg:"" optional:"" help:"The command to tell about."`
}

// Run is --help of that command.
func (cmd *HelpCmd) Run(ctx context.Context, c *call) error {
	if len(cmd.Command) == 0 {
		return c.help(nil)
	}
	entry, _, _, err := lookup(cmd.Command)
	if group := strings.Join(cmd.Command, " "); err != nil && isGroup(group) {
		return c.groupHelp(group)
	}
	if err != nil {
		return err
	}
	return c.help(entry)
}

// top answers a line without a command: --help, --version, or nothing at all.
func (c *call) top(args []string) error {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--version" || arg == "-v":
			fmt.Fprintln(c.Out, "moss version", Version)
			return nil
		case arg == "--help" || arg == "-h":
			return c.help(nil)
		case slices.Contains(valueGlobals[:], arg):
			i++
		default:
			name, _, _ := strings.Cut(arg, "=")
			if !slices.Contains(valueGlobals[:], name) {
				return &hintedError{fmt.Errorf("unknown flag %s", arg), "'moss --help' lists the flags and commands"}
			}
		}
	}
	if err := c.help(nil); err != nil {
		return err
	}
	return &exitError{code: exitMoss}
}

// help shows all commands, or one command with its flags.
func (c *call) help(e *entry) error {
	width := outputWidth(c.Out)
	if e == nil {
		c.overview(width)
		return nil
	}
	parser, err := newParser("moss "+e.Name, e.New())
	if err != nil {
		return err
	}
	usage := "moss " + e.Name + " [FLAGS]"
	if e.Usage != "" {
		usage += " " + e.Usage
	}
	fmt.Fprintf(c.Out, "Usage: %s\n\n%s.\n", usage, e.Help)
	for _, paragraph := range strings.Split(e.Text, "\n\n") {
		if paragraph != "" {
			fmt.Fprintf(c.Out, "\n%s\n", wrap(strings.ReplaceAll(paragraph, "\n", " "), 0, width))
		}
	}
	for _, group := range flagGroups(parser.Model.Flags) {
		fmt.Fprintf(c.Out, "\n%s:\n", group.title)
		for _, flag := range group.flags {
			printTwoColumns(c.Out, flagSyntax(flag), flag.Help, width)
		}
	}
	if len(e.Aliases) > 0 {
		fmt.Fprintf(c.Out, "\nAlso: moss %s\n", strings.Join(e.Aliases, ", moss "))
	}
	if e.Example != "" {
		fmt.Fprintf(c.Out, "\nExamples:\n  %s\n", strings.ReplaceAll(e.Example, "\n", "\n  "))
	}
	return nil
}

func (c *call) overview(width int) {
	fmt.Fprint(c.Out, "Usage: moss [FLAGS] COMMAND\n\nRun containers without root and without a daemon.\n")
	for _, group := range [...]string{groupContainers, groupImages, groupUnits, groupOthers} {
		fmt.Fprintf(c.Out, "\n%s:\n", group)
		for i := range commands {
			if e := &commands[i]; e.Group == group && !e.Hidden {
				printTwoColumns(c.Out, e.Name, e.Help, width)
			}
		}
	}
	parser, err := newParser("moss", &Globals{})
	if err == nil {
		fmt.Fprint(c.Out, "\nGlobal flags:\n")
		for _, flag := range parser.Model.Flags {
			printTwoColumns(c.Out, flagSyntax(flag), flag.Help, width)
		}
	}
	printTwoColumns(c.Out, "-v, --version", "Show the version.", width)
	fmt.Fprint(c.Out, "\n'moss COMMAND --help' tells about a command.\n")
}

// groupAsked is the group of commands whose help args ask for: "moss image --help".
func groupAsked(args []string) string {
	words, at := commandWords(args)
	if len(words) == 0 || at[len(at)-1]+1 >= len(args) {
		return ""
	}
	group := strings.Join(words, " ")
	if next := args[at[len(at)-1]+1]; next != "--help" && next != "-h" || find(group) != nil || !isGroup(group) {
		return ""
	}
	return group
}

// groupHelp lists the commands of a group.
func (c *call) groupHelp(group string) error {
	fmt.Fprintf(c.Out, "Usage: moss %s COMMAND\n\n", group)
	eachName(func(name string, e *entry) {
		if strings.HasPrefix(name, group+" ") {
			printTwoColumns(c.Out, name, e.Help, outputWidth(c.Out))
		}
	})
	fmt.Fprintf(c.Out, "\n'moss %s COMMAND --help' tells about one.\n", group)
	return nil
}

type flagGroup struct {
	title string
	flags []*kong.Flag
}

// flagGroups sorts flags into their groups, in the order of the grammar; the
// global ones come last.
func flagGroups(flags []*kong.Flag) []flagGroup {
	var groups []flagGroup
	for _, flag := range flags {
		if flag.Hidden {
			continue
		}
		title := "Flags"
		if flag.Group != nil {
			title = flag.Group.Title
		}
		i := slices.IndexFunc(groups, func(g flagGroup) bool { return g.title == title })
		if i < 0 {
			i, groups = len(groups), append(groups, flagGroup{title: title})
		}
		groups[i].flags = append(groups[i].flags, flag)
	}
	slices.SortStableFunc(groups, func(a, b flagGroup) int {
		last := func(g flagGroup) int {
			if g.title == "Global" {
				return 1
			}
			return 0
		}
		return last(a) - last(b)
	})
	return groups
}

// flagSyntax is "-p, --publish=PORT".
func flagSyntax(flag *kong.Flag) string {
	s := "    "
	if flag.Short != 0 {
		s = "-" + string(flag.Short) + ", "
	}
	s += "--" + flag.Name
	if !flag.IsBool() {
		s += "=" + or(flag.PlaceHolder, "VALUE")
	}
	return s
}

func printTwoColumns(w io.Writer, left, right string, width int) {
	const column = 30
	text := wrap(right, column, width)
	if len(left)+4 > column {
		fmt.Fprintf(w, "  %s\n%s%s\n", left, strings.Repeat(" ", column), text)
		return
	}
	fmt.Fprintf(w, "  %-*s%s\n", column-2, left, text)
}

// wrap breaks text into lines of width, of which indent are blank.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		switch {
		case at == 0:
		case indent+at+1+len(word) > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String()
}

func outputWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 40 {
			return min(width, 110)
		}
	}
	return 100
}
