package cli

import (
	"strings"
	"testing"
)

// Every refusal reaches the user through the parser, and none stands for a flag
// or a command that moss has.
func TestRefusals(t *testing.T) {
	for _, r := range refusals {
		for _, command := range strings.Fields(r.Commands) {
			args := append(strings.Split(command, "-"), "argument")
			if r.Flag != "" {
				args = append(strings.Split(command, "-"), r.Flag, "argument")
			}
			e, name, rest, err := lookup(args)
			if err == nil && e != nil {
				err = parse("moss "+name, e.New(), rest)
			}
			if e == nil && r.Flag != "" {
				continue // the whole command is not there
			}
			if err == nil || !strings.HasPrefix(err.Error(), "cannot use ") || !strings.HasSuffix(err.Error(), ": "+r.Reason) {
				t.Errorf("moss %s: %v; want it refused: %s", strings.Join(args, " "), err, r.Reason)
			}
		}
	}
}
