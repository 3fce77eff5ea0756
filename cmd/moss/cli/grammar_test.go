package cli

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// grammars are the structs of all commands.
func grammars() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range commands {
		out[commands[i].Name] = reflect.TypeOf(commands[i].New()).Elem()
	}
	return out
}

// Every command can be parsed for, and every flag tells what it is.
func TestGrammarIsDescribed(t *testing.T) {
	for i := range commands {
		e := &commands[i]
		p, err := newParser("moss "+e.Name, e.New())
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
			continue
		}
		if e.Help == "" || strings.HasSuffix(e.Help, ".") || e.Group == "" && !e.Hidden {
			t.Errorf("%s: its help or group is missing, or ends in a period", e.Name)
		}
		if hasArguments := len(p.Model.Positional) > 0; hasArguments != (e.Usage != "") && e.Usage != "" {
			t.Errorf("%s: its usage %q and its arguments disagree", e.Name, e.Usage)
		}
		for _, flag := range p.Model.Flags {
			switch {
			case flag.Help == "" || !strings.HasSuffix(flag.Help, ".") && !strings.HasSuffix(flag.Help, "…"):
				t.Errorf("%s --%s: its help is missing, or is no sentence: %q", e.Name, flag.Name, flag.Help)
			case !flag.IsBool() && flag.PlaceHolder == "":
				t.Errorf("%s --%s: takes a value, but has no placeholder", e.Name, flag.Name)
			case strings.Contains(flag.Help, "${"):
				t.Errorf("%s --%s: kong would interpolate its help", e.Name, flag.Name)
			}
		}
	}
}

// The short grammar that parse tries first leaves flags out: none may have an
// effect when it is not on the command line.
func TestFlagsHaveNoDefaults(t *testing.T) {
	for name, grammar := range grammars() {
		for _, f := range leafFields(grammar) {
			for _, key := range []string{"default", "env", "required", "xor", "and", "negatable", "enum", "embed", "prefix"} {
				if _, ok := f.Tag.Lookup(key); ok {
					t.Errorf("%s: field %s has the tag %q, which parse would lose", name, f.Name, key)
				}
			}
			if f.Type.Kind() == reflect.Slice && f.Tag.Get("sep") == "" && !f.isArgument() {
				t.Errorf("%s: flag %s would be split at commas by accident: say sep", name, f.Name)
			}
		}
	}
}

func (l leaf) isArgument() bool { _, ok := l.Tag.Lookup("arg"); return ok }

// No flag is accepted and then ignored: each field is read somewhere.
func TestEveryFlagIsUsed(t *testing.T) {
	means := map[string]string{ // what these say is so without them
		"PsCmd.Sync":                "a status is derived from the processes whenever it is looked at",
		"ImagesCmd.All":             "there are no intermediate images to hide",
		"SaveCmd.MultiImageArchive": "an archive holds as many images as are named",
	}
	//lint:ignore SA1019 there are no build tags here
	packages, err := parser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool { return !strings.HasSuffix(f.Name(), "_test.go") }, 0)
	if err != nil {
		t.Fatal(err)
	}
	read := map[string]bool{}
	ast.Inspect(packages["cli"], func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			read[s.Sel.Name] = true
		}
		return true
	})
	for name, grammar := range grammars() {
		for _, f := range leafFields(grammar) {
			if !read[f.Name] && f.Name != "Help" && means[grammar.Name()+"."+f.Name] == "" {
				t.Errorf("%s: field %s is never read", name, f.Name)
			}
		}
	}
}

// The short grammar gives what the whole one gives.
func TestShortGrammarIsTheWhole(t *testing.T) {
	for _, line := range []string{
		"run img", "run -it img", "run --rm -itp80:80 -p 81:81 img sh -c x", "run -d --name=a img", "run --name a img --name b",
		"run img -d", "run -- img -d", "run img -- x", "run -e A=b,c -v /a:/b,c img", "run -m 1g --memory-swap -1 img", "run --rm=false img",
		"run --cap-add a,b --cap-add c img", "run --entrypoint= img", "run -h host img", "run --net none img", "run --stop-timeout 5 img",
		"run --tls-verify=false img", "run --read-only-tmpfs=false img", "run --log-level debug img", "run -q -l a=b img -q -l",
		"run", "run --nonsense img", "run --name", "run -Z img", "run --rm=maybe img", "run --stop-timeout x img", "run -ix img",
		"ps -aq", "ps --filter a=b -f c=d --format {{.ID}}", "ps x", "ps -n 5", "ps -n x", "rm -fv a b", "exec -it a sh -c -i", "exec -u 1 a id -u",
		"stop -t 5 a", "stop -t -1 a", "logs --tail 5 -f a", "tag a b c", "tag a", "volume create", "volume create a -l b=c", "images -a x",
		"save -o x a b", "unshare ls -l", "unshare", "top a -ef", "port a 80", "wait --condition running a", "inspect -f {{.Id}} a b",
	} {
		args := strings.Fields(line)
		e, name, rest, err := lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		short, whole := e.New(), e.New()
		shortErr, wholeErr := parse("moss "+name, short, rest), parseWhole("moss "+name, whole, rest)
		if fmt.Sprint(shortErr) != fmt.Sprint(wholeErr) {
			t.Errorf("%s: errors %v and %v", line, shortErr, wholeErr)
		}
		if shortErr == nil && !reflect.DeepEqual(short, whole) {
			t.Errorf("%s:\n%+v\n%+v", line, short, whole)
		}
	}
}

// Flags may stand between the arguments of a list, and not between those of another program.
func TestFlagsAmongArguments(t *testing.T) {
	for line, want := range map[string]string{
		"stop a -t 0 b":               "[a b] 0 false",
		"stop a b --ignore --time=3":  "[a b] 3 true",
		"stop -it 5 a --filter x=y b": "[a b] 5 true",
		"stop a -i -- -t b":           "[a -t b]  true",
		"stop a -t0 b":                "[a b] 0 false",
	} {
		e, name, rest, err := lookup(strings.Fields(line))
		if err != nil {
			t.Fatal(err)
		}
		cmd := e.New().(*StopCmd)
		if err := parse("moss "+name, cmd, rest); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := fmt.Sprint(withoutDashes(cmd.Container), " ", cmd.Time, " ", cmd.Ignore); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	if err := parse("moss stop", new(StopCmd), strings.Fields("a --nonsense b")); err == nil || !strings.Contains(err.Error(), "--nonsense") {
		t.Error(err)
	}
}

// What stands behind the image is the container's.
func TestArgumentsAfterTheImage(t *testing.T) {
	for line, want := range map[string][]string{
		"img":                  {"img"},
		"--rm img":             {"img"},
		"img --rm":             {"img", "--rm"},
		"img -it --help":       {"img", "-it", "--help"},
		"-- img x":             {"img", "x"},
		"img -- x":             {"img", "--", "x"},
		"-e A=1 img sh -c 'x'": {"img", "sh", "-c", "'x'"},
		"img --nonsense":       {"img", "--nonsense"},
	} {
		cmd := new(RunCmd)
		if err := parse("moss run", cmd, strings.Fields(line)); err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := withoutDashes(cmd.Image); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestLookup(t *testing.T) {
	for line, want := range map[string]string{
		"run x":                     "run|x",
		"--log-level debug run x":   "run|--log-level debug x",
		"--root /x --runroot=/y ps": "ps|--root /x --runroot=/y",
		"container ls -a":           "ps|-a",
		"container rm x":            "rm|x",
		"image ls":                  "images|",
		"image inspect x":           "image inspect|x",
		"volume create v":           "volume create|v",
		"system info":               "info|",
		"stop container":            "stop|container",
		"ps ls":                     "ps|ls",
	} {
		e, _, rest, err := lookup(strings.Fields(line))
		if err != nil || e.Name+"|"+strings.Join(rest, " ") != want {
			t.Errorf("%s: %v, %q; want %s", line, err, rest, want)
		}
	}
	for line, hint := range map[string]string{"pss": "moss ps", "imges": "moss images", "container sop": "stop", "xyzzy": "moss help"} {
		_, _, _, err := lookup(strings.Fields(line))
		hinted, ok := err.(interface{ Hint() string })
		if !ok || !strings.Contains(hinted.Hint(), hint) {
			t.Errorf("%s: %v; want a hint with %q", line, err, hint)
		}
	}
	for line, want := range map[string]string{
		"image --help": "image", "image trust -h": "image trust", "--log-level debug unit --help": "unit",
		"image ls --help": "", "run --help": "", "image": "", "nope --help": "", "run x image --help": "", "--help": "",
	} {
		if group := groupAsked(strings.Fields(line)); group != want {
			t.Errorf("%s asks for the help of group %q, not %q", line, group, want)
		}
	}
	if e, _, _, err := lookup([]string{"--version"}); e != nil || err != nil {
		t.Errorf("a line without a command: %v, %v", e, err)
	}
}

// A command has one name, and a name one command.
func TestNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	eachName(func(name string, e *entry) {
		if other, twice := seen[name]; twice {
			t.Errorf("%q is both %q and %q", name, other, e.Name)
		}
		seen[name] = e.Name
	})
}
