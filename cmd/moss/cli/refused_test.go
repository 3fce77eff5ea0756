package cli

import (
	"os"
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

// docs/compat.md says of each of podman's flags what moss makes of it: a flag
// called the same, or one that differs, is in the grammar, with podman's letter
// and with a value where podman's has one; every other is refused. What is said to
// differ is not what is refused.
func TestCompat(t *testing.T) {
	data, err := os.ReadFile("../../../test/compat/podman.txt")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parseCompat(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		verdicts, err := p.verdicts()
		if err != nil {
			t.Error(err)
		}
		for i, v := range verdicts {
			note := p.note
			if i > 0 {
				note = p.flags[i-1].note
			}
			if v.status == "missing" {
				t.Errorf("%s %s: podman has it, moss neither has nor refuses it", p.names[0], v.flag)
			}
			if v.status == "refused" && note != "" {
				t.Errorf("%s %s: is refused, and said to differ: %s", p.names[0], v.flag, note)
			}
		}
	}
}
