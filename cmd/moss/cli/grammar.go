package cli

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// leaf is one field of a grammar struct, its embedded structs flattened.
type leaf struct {
	reflect.StructField
	path []int // for FieldByIndex
}

// leafFields lists the flags and arguments of a grammar struct.
func leafFields(t reflect.Type) []leaf {
	var out []leaf
	for i := range t.NumField() {
		f := t.Field(i)
		switch {
		case f.Anonymous:
			for _, sub := range leafFields(f.Type) {
				sub.path = append([]int{i}, sub.path...)
				out = append(out, sub)
			}
		case f.IsExported() && f.Tag != "":
			out = append(out, leaf{f, []int{i}})
		}
	}
	return out
}

// parse fills cmd, a pointer to a command's struct, from args.
//
// Kong spends about 20 µs on every flag of a grammar (it interpolates help texts
// with a regular expression), which for run is more than joining the namespaces
// takes. So it is first shown a grammar of only the flags whose names occur in
// args. That grammar accepts exactly what the whole one does: a flag that is left
// out of it cannot be meant by any argument. If it refuses, the whole grammar is
// asked, whose message knows all the flags.
func parse(name string, cmd any, args []string) error {
	whole := reflect.ValueOf(cmd).Elem()
	part, fields := partOf(whole.Type(), mentioned(args))
	if parser, err := newParser(name, part.Addr().Interface()); err == nil {
		line, err := parser.Parse(args)
		if err == nil {
			err = lacksValue(whole.Type(), line, args)
		}
		if err == nil {
			for i, f := range fields {
				whole.FieldByIndex(f.path).Set(part.Field(i))
			}
			remember(cmd, line)
			return nil
		}
		if errors.Is(err, errHelp) {
			return errHelp
		}
	}
	if ordered, changed := flagsFirst(whole.Type(), args); changed {
		return parse(name, cmd, ordered)
	}
	return parseWhole(name, cmd, args)
}

func parseWhole(name string, cmd any, args []string) error {
	parser, err := newParser(name, cmd)
	if err != nil {
		return err
	}
	line, err := parser.Parse(args)
	if err != nil {
		if errors.Is(err, errHelp) {
			return errHelp
		}
		if e := find(strings.TrimPrefix(name, "moss ")); e != nil {
			if refusal := refusedFlag(e.Name, err); refusal != nil {
				return refusal
			}
		}
		return &parseError{command: name, grammar: reflect.TypeOf(cmd).Elem(), err: err}
	}
	if err := lacksValue(reflect.TypeOf(cmd).Elem(), line, args); err != nil {
		return &parseError{command: name, grammar: reflect.TypeOf(cmd).Elem(), err: err}
	}
	remember(cmd, line)
	return nil
}

// lacksValue says that a command line ends where the value of a flag should be. Where
// values may begin with a hyphen, kong takes the end for an empty one.
func lacksValue(grammar reflect.Type, line *kong.Context, args []string) error {
	if len(args) == 0 || len(line.Path) == 0 {
		return nil
	}
	last, f := args[len(args)-1], line.Path[len(line.Path)-1].Flag
	if f == nil || f.IsBool() || f.IsCounter() {
		return nil
	}
	name, isLong := strings.CutPrefix(last, "--")
	isShort := !isLong && f.Short != 0 && strings.HasPrefix(last, "-") && strings.IndexRune(last, f.Short) == len(last)-1
	if isLong && (name == f.Name || slices.Contains(f.Aliases, name)) || isShort {
		return fmt.Errorf("flag %s needs a value", flagName(grammar, f.Name))
	}
	return nil
}

// remember notes which flags a command line gives, whatever their values.
func remember(cmd any, line *kong.Context) {
	c, ok := cmd.(command)
	if !ok {
		return
	}
	g := c.globals()
	for _, p := range line.Path {
		if p.Flag != nil {
			g.given = append(g.given, p.Flag.Name)
		}
	}
}

// isGiven says whether a flag was given.
func (g *Globals) isGiven(flag string) bool { return slices.Contains(g.given, flag) }

// parseError is a command line that does not follow the grammar.
type parseError struct {
	command string
	grammar reflect.Type
	err     error
}

// Error says it in the words of flagError, where kong's are others.
func (e *parseError) Error() string {
	message := e.err.Error()
	flag, cause, ok := strings.Cut(message, ": ")
	name, isFlag := strings.CutPrefix(flag, "--")
	if !ok || !isFlag || strings.Contains(name, " ") {
		return message
	}
	flag = flagName(e.grammar, name)
	kind, value, ok := strings.Cut(cause, " but got ")
	switch {
	case strings.Contains(cause, "missing value"), strings.Contains(cause, `"EOL"`):
		return fmt.Sprintf("flag %s needs a value", flag)
	case !ok:
		return fmt.Sprintf("flag %s: %s", flag, cause)
	case strings.Contains(kind, "bool"):
		return fmt.Sprintf("invalid value %s for flag %s: want true or false", value, flag)
	case strings.Contains(kind, "int"):
		return fmt.Sprintf("invalid value %s for flag %s: want a whole number", value, flag)
	}
	return fmt.Sprintf("invalid value %s for flag %s: %s", value, flag, kind)
}

// Hint says where the grammar is written down.
func (e *parseError) Hint() string { return "see '" + e.command + " --help'" }

// newParser makes kong's parser for one command, whose struct is the grammar.
func newParser(name string, cmd any) (*kong.Kong, error) {
	parser, err := kong.New(cmd, kong.Name(name), kong.NoDefaultHelp(), kong.WithHyphenPrefixedParameters(true))
	if err != nil {
		return nil, err
	}
	giveHelpShort(parser.Model.Node)
	return parser, nil
}

// giveHelpShort lets -h mean --help where it means nothing else.
func giveHelpShort(node *kong.Node) {
	var help *kong.Flag
	for _, flag := range node.Flags {
		if flag.Short == 'h' {
			return
		}
		if flag.Name == "help" {
			help = flag
		}
	}
	if help != nil {
		help.Short = 'h'
	}
}

// mentioned are all the long names and short letters that args could mean:
// more than they do mean, since values are not told from flags.
func mentioned(args []string) map[string]bool {
	names := map[string]bool{"h": true}
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "--"); ok {
			name, _, _ = strings.Cut(name, "=")
			names[name] = true
		} else if letters, ok := strings.CutPrefix(arg, "-"); ok {
			for _, r := range letters {
				names[string(r)] = true
			}
		}
	}
	return names
}

// partOf makes a struct of the arguments of t and of those of its flags that
// are in names, without their help.
func partOf(t reflect.Type, names map[string]bool) (reflect.Value, []leaf) {
	var fields []leaf
	var types []reflect.StructField
	for _, f := range leafFields(t) {
		if !isNamed(f.StructField, names) {
			continue
		}
		fields = append(fields, f)
		types = append(types, reflect.StructField{Name: f.Name, Type: f.Type, Tag: withoutHelp(f.Tag)})
	}
	return reflect.New(reflect.StructOf(types)).Elem(), fields
}

func isNamed(f reflect.StructField, names map[string]bool) bool {
	if _, ok := f.Tag.Lookup("arg"); ok {
		return true
	}
	if f.Name == "Help" || names[f.Tag.Get("short")] || names[longName(f)] {
		return true
	}
	aliases := f.Tag.Get("aliases")
	return aliases != "" && slices.ContainsFunc(strings.Split(aliases, ","), func(a string) bool { return names[a] })
}

// withoutHelp takes away the texts, which are the costly part of a tag.
func withoutHelp(tag reflect.StructTag) reflect.StructTag {
	var out strings.Builder
	for _, key := range []string{"name", "short", "aliases", "sep", "arg", "optional", "passthrough"} {
		if value, ok := tag.Lookup(key); ok {
			out.WriteString(key + `:"` + value + `" `)
		}
	}
	return reflect.StructTag(strings.TrimSpace(out.String()))
}

// errHelp stops the parsing when --help is met.
var errHelp = errors.New("help is wanted")

// helpFlag is the type of --help.
type helpFlag bool

// BeforeReset is kong's hook: it runs before missing arguments are complained of.
func (helpFlag) BeforeReset() error { return errHelp }
