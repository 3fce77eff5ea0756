package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"moss/rootless/container"
	"moss/systemd/quadlet"
)

// splitCommand splits a command line of moss before its command: "--root X" and
// the like stay those of the whole.
func splitCommand(argv []string) (globals, rest []string) {
	for i := 1; i < len(argv); i++ {
		switch {
		case !strings.HasPrefix(argv[i], "-"):
			return slices.Clone(argv[1:i]), argv[i:]
		case !strings.Contains(argv[i], "=") && argv[i] != "--help" && argv[i] != "--version":
			i++ // its value
		}
	}
	return nil, nil
}

// unitsOwn are the flags of run that the unit decides itself.
var unitsOwn = []string{"detach", "rm", "replace", "name", "cidfile", "conmon-pidfile", "pidfile", "sdnotify", "cgroups", "restart", "attach", "detach-keys", "creds"}

// unitCommand makes of the command line that has created a container that of the unit
// which is to do so each time: the words of systemd that follow the program.
func unitCommand(spec *container.Spec, name, notify string) ([]string, error) {
	given, image, err := createdWith(spec)
	if err != nil {
		return nil, err
	}
	out := []string{"run", "--replace", "--rm", "-d", "--cgroups=" + cgroupsFor(spec), "--sdnotify=" + notify, "--name=" + name}
	for _, g := range given {
		word := "--" + g.flag.Name
		if !g.flag.IsBool() || g.valued {
			word += "=" + g.value
		}
		out = append(out, quadlet.Word(word))
	}
	for _, word := range image {
		out = append(out, quadlet.Word(word))
	}
	return out, nil
}

// createdWith is the command line that has created a container: the flags that a unit
// repeats, and the image with its command. Variables without a value have that of
// then; what is relative to a directory is an error, since a unit has none.
func createdWith(spec *container.Spec) (out []givenFlag, image []string, err error) {
	_, rest := splitCommand(spec.CreateCommand)
	if len(rest) > 0 && rest[0] == "container" {
		rest = rest[1:]
	}
	if len(rest) == 0 || rest[0] != "run" && rest[0] != "create" {
		return nil, nil, errors.New("neither 'moss run' nor 'moss create' has made it, whose command the unit would repeat")
	}
	parser, err := newParser("moss run", new(RunCmd))
	if err != nil {
		return nil, nil, err
	}
	flags := map[string]*kong.Flag{}
	for _, f := range parser.Model.Flags {
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			flags["--"+n] = f
		}
		if f.Short != 0 {
			flags["-"+string(f.Short)] = f
		}
	}
	given, image, err := splitFlags(rest[1:], flags)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range given {
		if slices.Contains(unitsOwn, g.flag.Name) || rest[0] == "create" && g.flag.Name == "warm" {
			continue
		}
		isPath := slices.Contains([]string{"FILE", "PATH", "DIR"}, g.flag.PlaceHolder)
		if relative(g.value) || isPath && g.value != "" && !strings.HasPrefix(g.value, "/") {
			return nil, nil, fmt.Errorf("--%s %s is relative to the directory where it was created, which a unit has not; create it with the whole path", g.flag.Name, g.value)
		}
		if g.flag.Name == "env" && !strings.ContainsAny(g.value, "=*") { // as it was there
			i := slices.IndexFunc(spec.Process.Env, func(e string) bool { return strings.HasPrefix(e, g.value+"=") })
			if i < 0 {
				continue
			}
			g.value = spec.Process.Env[i]
		}
		out = append(out, g)
	}
	return out, image, nil
}

// cgroupsFor keeps the monitor in the unit's cgroup.
func cgroupsFor(spec *container.Spec) string {
	if mode := spec.Resources.CgroupsMode; mode == "split" || mode == "disabled" {
		return mode
	}
	return "no-conmon"
}

// relative says whether a value of a flag leads somewhere from a working directory.
func relative(value string) bool {
	for _, part := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
		_, after, _ := strings.Cut(part, "=")
		for _, path := range []string{part, after} {
			if path == "." || path == ".." || strings.HasPrefix(path, "./") || strings.HasPrefix(path, "../") ||
				strings.HasPrefix(path, ".:") || strings.HasPrefix(path, "..:") {
				return true
			}
		}
	}
	return false
}

// givenFlag is a flag on a command line.
type givenFlag struct {
	flag   *kong.Flag
	value  string
	valued bool // with = after a flag that needs no value
}

// splitFlags takes the flags before the first argument apart.
func splitFlags(args []string, flags map[string]*kong.Flag) (given []givenFlag, rest []string, err error) {
	for i := 0; i < len(args); i++ {
		word := args[i]
		if word == "--" {
			return given, args[i+1:], nil
		}
		if !strings.HasPrefix(word, "-") || word == "-" {
			return given, args[i:], nil
		}
		if strings.HasPrefix(word, "--") {
			name, value, valued := strings.Cut(word, "=")
			f := flags[name]
			if f == nil {
				return nil, nil, fmt.Errorf("its command has a flag %s that run does not know", name)
			}
			if !valued && !f.IsBool() {
				if i++; i >= len(args) {
					return nil, nil, fmt.Errorf("its command has no value for %s", name)
				}
				value = args[i]
			}
			given = append(given, givenFlag{f, value, valued})
			continue
		}
		for letters := word[1:]; letters != ""; letters = letters[1:] {
			f := flags["-"+letters[:1]]
			if f == nil {
				return nil, nil, fmt.Errorf("its command has a flag -%s that run does not know", letters[:1])
			}
			if f.IsBool() {
				given = append(given, givenFlag{flag: f})
				continue
			}
			value := strings.TrimPrefix(letters[1:], "=")
			if value == "" {
				if i++; i >= len(args) {
					return nil, nil, fmt.Errorf("its command has no value for -%s", letters[:1])
				}
				value = args[i]
			}
			given = append(given, givenFlag{f, value, true})
			break
		}
	}
	return nil, nil, errors.New("its command names no image")
}
