package quadlet

import (
	"slices"
	"strings"
)

// Assignment is the line of a [Container] section that makes a flag of 'moss run', with
// its value; a flag that takes none has "" or "false". What no key makes becomes
// PodmanArgs.
func Assignment(flag, value string, isSwitch bool) string {
	args := [][]string{{flag, value}, {flag + "=" + value}}
	if isSwitch && value != "false" {
		value = "true"
		args = [][]string{{flag}}
	}
	if flag == "--volume" {
		args[0][0] = "-v"
	}
	for _, k := range containers.keys {
		short := value
		switch {
		case k.flag == flag || k.flag == "-v" && flag == "--volume":
		case flag != "--security-opt" || k.flag == "":
			continue
		case strings.HasPrefix(k.flag, flag): // it says all: --security-opt=no-new-privileges
			short = "true"
		default:
			rest, ok := strings.CutPrefix(value, k.flag)
			if !ok {
				continue
			}
			short = rest
		}
		for _, form := range []string{Raw(short), Word(short)} {
			if line := k.name + "=" + form; makes(line, args) {
				return line
			}
		}
	}
	word := flag
	if !isSwitch || value == "false" {
		word += "=" + value
	}
	return "PodmanArgs=" + Word(word)
}

// Raw is a value that means itself: systemd finds neither specifiers nor variables in
// the command line that it becomes part of.
func Raw(value string) string { return strings.ReplaceAll(escape(value), "$", "$$") }

// makes says whether a line of a file adds just these arguments, in one of the forms.
func makes(line string, forms [][]string) bool {
	if strings.ContainsAny(line, "\n\r") {
		return false
	}
	with, ok := probe(line + "\n")
	if !ok {
		return false
	}
	without, _ := probe("")
	i := 0
	for i < len(without) && i < len(with) && without[i] == with[i] {
		i++
	}
	added := len(with) - len(without)
	if added <= 0 || i+added > len(with) || !slices.Equal(with[i+added:], without[i:]) {
		return false
	}
	got := with[i : i+added]
	return slices.ContainsFunc(forms, func(f []string) bool {
		// Names of capabilities are of either case.
		return slices.EqualFunc(f, got, func(a, b string) bool {
			return a == b || strings.HasPrefix(f[0], "--cap-") && strings.EqualFold(a, b)
		})
	})
}

// probe is the command line that a container with these lines has, as the program sees
// it.
func probe(lines string) (args []string, ok bool) {
	f := &File{Name: "x.container", Path: "/x.container", kind: &containers}
	bad := f.parse(f.Path, "[Container]\nImage=localhost/x\n"+lines)
	s := &Set{Files: []*File{f}, problems: map[*File][]Problem{f: bad}, byName: map[string]*File{f.Name: f}}
	u := s.Convert("moss")[0]
	if len(u.Problems) > 0 {
		return nil, false
	}
	for _, c := range u.Commands {
		if c.Key == "ExecStart" {
			for _, a := range c.Args {
				text := strings.ReplaceAll(strings.ReplaceAll(a.Text, "%%", "\x00"), "$$", "\x01")
				if strings.ContainsAny(text, "%$") && a.From != nil {
					return nil, false
				}
				args = append(args, strings.NewReplacer("\x00", "%", "\x01", "$").Replace(text))
			}
		}
	}
	return args, true
}
