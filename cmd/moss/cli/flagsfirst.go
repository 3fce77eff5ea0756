package cli

import (
	"reflect"
	"slices"
	"strings"
)

// flagsFirst puts the flags of a command line before its arguments, for commands
// that take a list of those: kong takes the list for ended where a flag follows,
// and "stop a -t 0 b" names two containers. It reports whether that changed
// anything. Where the arguments are another program's command line, it does not.
func flagsFirst(grammar reflect.Type, args []string) (ordered []string, changed bool) {
	fields := leafFields(grammar)
	isList := slices.ContainsFunc(fields, func(f leaf) bool {
		_, isArgument := f.Tag.Lookup("arg")
		_, passes := f.Tag.Lookup("passthrough")
		return isArgument && !passes && f.Type.Kind() == reflect.Slice
	})
	if !isList {
		return args, false
	}
	takesValue := func(name string) bool {
		i := slices.IndexFunc(fields, func(f leaf) bool {
			return longName(f.StructField) == name || f.Tag.Get("short") == name || slices.Contains(strings.Split(f.Tag.Get("aliases"), ","), name)
		})
		return i >= 0 && !isBool(fields[i].Type)
	}
	var flags, list []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			list = append(append([]string{arg}, list...), args[i+1:]...)
			break
		}
		if !strings.HasPrefix(arg, "-") || arg == "-" {
			list = append(list, arg)
			continue
		}
		flags = append(flags, arg)
		if valueFollows(arg, takesValue) && i+1 < len(args) {
			i++
			flags = append(flags, args[i])
		}
	}
	ordered = append(flags, list...)
	return ordered, !slices.Equal(ordered, args)
}

func isBool(t reflect.Type) bool {
	return t.Kind() == reflect.Bool || t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Bool
}

// valueFollows says whether the next word is the value of "--name", or of the last
// letter of "-abc".
func valueFollows(arg string, takesValue func(name string) bool) bool {
	if name, isLong := strings.CutPrefix(arg, "--"); isLong {
		return !strings.Contains(name, "=") && takesValue(name)
	}
	for i, letter := range arg[1:] {
		if takesValue(string(letter)) {
			return i+2 == len(arg) // else the value is the rest of the word
		}
	}
	return false
}
