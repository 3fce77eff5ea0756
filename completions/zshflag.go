package completions

import (
	"fmt"

	"github.com/alecthomas/kong"
)

// zshFlag makes the specifications of a flag for _arguments.
func zshFlag(c Command, f *kong.Flag) []string {
	value := ""
	if !f.IsBool() {
		value = ":" + zshText(f.PlaceHolder) + ":" + zshAction(c.flagKind(f))
	}
	help := "[" + zshText(f.Help) + "]"
	repeat := ""
	if f.IsSlice() {
		repeat = "*"
	}
	var out []string
	for _, name := range flagNames(f) {
		switch {
		case value != "" && name[1] == '-':
			name += "="
		case value != "":
			name += "+" // -p80 and -p 80
		}
		out = append(out, fmt.Sprintf("%s%s%s%s", repeat, name, help, value))
	}
	return out
}
