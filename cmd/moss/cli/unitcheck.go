package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/storage/image"
	"moss/systemd/quadlet"
	"moss/userns/slack"
)

// UnitCheckCmd is "moss unit check".
type UnitCheckCmd struct {
	Globals
	Path []string `arg:"" optional:"" help:"Quadlet files, or directories of them; the directories where yours lie by default."`
}

// Run prints what is wrong, a line each, and ends with exit code 1 if that is not only
// warnings.
func (cmd *UnitCheckCmd) Run(ctx context.Context, c *call) error {
	set, dirs, err := loadUnits(cmd.Path)
	if err != nil {
		return err
	}
	count, errs, warnings := 0, 0, 0
	for _, f := range set.Files {
		if asked(f.Path, cmd.Path, dirs) {
			count++
		}
	}
	for _, p := range unitProblems(set, set.Convert(self()), func(path string) bool { return asked(path, cmd.Path, dirs) }) {
		fmt.Fprintln(c.Err, p)
		if p.Warning {
			warnings++
		} else {
			errs++
		}
	}
	fmt.Fprintf(c.Out, "%s: %s, %s\n", plural(count, "file"), plural(errs, "error"), plural(warnings, "warning"))
	if errs > 0 {
		return exitWith(exitFound)
	}
	return nil
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// loadUnits reads the files and directories that are named, and where the user's
// others lie: they may refer to those.
func loadUnits(paths []string) (set *quadlet.Set, dirs []string, err error) {
	var files []string
	for i, path := range paths {
		if paths[i], err = filepath.Abs(path); err != nil {
			return nil, nil, err
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("cannot check %q: %w", path, errors.Unwrap(err))
		case info.IsDir():
			dirs = append(dirs, paths[i])
		case quadlet.IsQuadlet(path):
			files = append(files, paths[i])
		case strings.HasSuffix(path, ".conf") && strings.HasSuffix(filepath.Dir(paths[i]), ".d"):
			dirs = append(dirs, filepath.Dir(filepath.Dir(paths[i])))
		default:
			return nil, nil, fmt.Errorf("cannot check %q: it is no quadlet file: want .container, .pod, .kube, .network, .volume, .image, .build or .artifact", path)
		}
	}
	own, err := unitDirs()
	if err != nil {
		return nil, nil, err
	}
	return quadlet.Load(slices.Concat(dirs, own), files...), dirs, nil
}

// asked says whether a path is among those that were named: itself, a drop-in of
// it, or what lies below a directory.
func asked(path string, paths, dirs []string) bool {
	if len(paths) == 0 {
		return true
	}
	return slices.ContainsFunc(paths, func(p string) bool {
		real := quadlet.Real(p) // a directory is read without links on the way
		return path == p || path == real || strings.HasPrefix(path, p+".d/") || strings.HasPrefix(path, real+".d/") ||
			slices.Contains(dirs, p) && strings.HasPrefix(path, real+"/")
	})
}

// unitProblems are those of the units whose files are asked for, wherever they stand, and
// those that stand in a file which is; by path and line.
func unitProblems(set *quadlet.Set, units []*quadlet.Unit, asked func(path string) bool) (out []quadlet.Problem) {
	add := func(u *quadlet.Unit, problems []quadlet.Problem) {
		for _, p := range problems {
			if (u != nil && asked(u.Source.Path) || asked(p.Path)) && !slices.Contains(out, p) { // of a drop-in of several
				out = append(out, p)
			}
		}
	}
	add(nil, set.Problems)
	for _, u := range units {
		add(u, u.Problems)
		if !u.Failed() { // else its lines are not whole
			add(u, commandProblems(u))
		}
	}
	slices.SortStableFunc(out, func(a, b quadlet.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), a.Line-b.Line)
	})
	return out
}

// commandProblems lets moss's own grammar judge the command lines of a service. What
// stands before the command of each is judged once.
func commandProblems(u *quadlet.Unit) (out []quadlet.Problem) {
	isGlobal := func(a quadlet.Arg) bool { return a.From != nil && a.From.Key == "GlobalArgs" }
	for i, command := range u.Commands {
		args := command.Args[1:]
		if i == 0 {
			globals := slices.DeleteFunc(slices.Clone(args), func(a quadlet.Arg) bool { return !isGlobal(a) })
			out = problemsOf(u, globals, checkGlobals)
		}
		for _, p := range problemsOf(u, slices.DeleteFunc(slices.Clone(args), isGlobal), checkCommand) {
			if p.Line == 0 && slices.ContainsFunc(out, func(q quadlet.Problem) bool { return q.Line == 0 && q.Warning }) {
				continue // of another command of the same noun
			}
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return append(out, imageProblems(u)...)
}

// problemsOf are those that check finds in arguments: what an error is about is left
// out, and the rest judged again.
func problemsOf(u *quadlet.Unit, args []quadlet.Arg, check func(words []string) error) (out []quadlet.Problem) {
	all := len(args)
	for {
		var words []string
		for _, a := range args {
			word, _ := resolved(a.Text)
			words = append(words, word)
		}
		err := check(words)
		if err == nil {
			return out
		}
		l := blame(args, err)
		if l == nil && (len(out) > 0 || len(args) < all) {
			return out // perhaps of what was left out
		}
		p := quadlet.Problem{Path: u.Source.Path, Message: err.Error(), Warning: isLater(err)}
		if l == nil {
			return append(out, p)
		}
		if _, guessed := resolved(l.Value); !guessed {
			p.Path, p.Line = l.Path, l.Number
			p.Message = l.Key + ": " + p.Message
			out = append(out, p)
		}
		args = slices.DeleteFunc(slices.Clone(args), func(a quadlet.Arg) bool { return a.From == l })
	}
}

// imageProblems judges the name of the image, which 'moss run' and 'moss pull' read when
// they look for it.
func imageProblems(u *quadlet.Unit) []quadlet.Problem {
	kind := u.Source.Kind()
	name, l := u.Source.Value(kind, "Image"), u.Line("X-"+kind, "Image")
	isPath := slices.ContainsFunc(archives[:], func(a struct{ transport, format string }) bool { return strings.HasPrefix(name, a.transport) })
	isID := len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""
	if name, guessed := resolved(name); name == "" || guessed || quadlet.IsQuadlet(name) || isPath || isID || kind == "Volume" {
		return nil
	}
	if _, err := image.Parse(name); err != nil {
		return []quadlet.Problem{{Path: l.Path, Line: l.Number, Message: l.Key + ": " + err.Error()}}
	}
	return nil
}

// isLater says whether a command line may be right another day: moss may learn what
// it refuses, and a file of the host may be made.
func isLater(err error) bool {
	var refusal *refusalError
	return errors.As(err, &refusal) || errors.Is(err, fs.ErrNotExist)
}

// checkGlobals says what moss would say about the flags before a command.
func checkGlobals(words []string) error {
	var all struct{ Globals }
	if err := parse("moss", &all, words); err != nil {
		if refusal := refusedFlag("run", err); refusal != nil { // as of each command
			return refusal
		}
		return err
	}
	if _, err := logLevel(all.LogLevel); err != nil {
		return err
	}
	return all.checkManager()
}

// checkCommand says what moss would say about a command line.
func checkCommand(words []string) error {
	entry, name, rest, err := lookup(words)
	if err != nil {
		return err
	}
	cmd := entry.New()
	if err := parse("moss "+name, cmd, rest); err != nil {
		return err
	}
	if p, ok := cmd.(preparer); ok {
		return p.prepare()
	}
	return nil
}

// resolved puts something likely in where the service manager will put a specifier or
// a variable; see systemd.unit(5) and systemd.service(5), "Command lines".
func resolved(text string) (out string, guessed bool) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c != '%' && c != '$' || i+1 == len(text) {
			b.WriteByte(c)
			continue
		}
		i++
		switch next := text[i]; {
		case next == c:
			b.WriteByte(c)
			continue
		case c == '$' && next == '{':
			i += max(strings.IndexByte(text[i:], '}'), 0)
			b.WriteByte('1')
		case c == '$':
			b.WriteByte('1')
		case next == 'h':
			b.WriteString(os.Getenv("HOME"))
		case next == 't':
			b.WriteString(os.Getenv("XDG_RUNTIME_DIR"))
		case strings.IndexByte("ESCLTVdDfyY", next) >= 0:
			b.WriteString("/tmp")
		case strings.IndexByte("nNpPjJuHl", next) >= 0:
			b.WriteByte('x')
		default: // an instance, a number
			b.WriteByte('1')
		}
		guessed = true
	}
	return b.String(), guessed
}

// blame finds the line of a file that an error is about: whose argument has the value,
// or the flag, that the error names.
func blame(args []quadlet.Arg, err error) *quadlet.Line {
	var flag *flagError
	if errors.As(err, &flag) {
		for i, a := range args {
			text, _ := resolved(a.Text)
			if a.From == nil || flag.Value == "" || text != flag.Value && !strings.HasSuffix(text, "="+flag.Value) {
				continue
			}
			if name, _, joined := strings.Cut(text, "="); i > 0 && strings.Contains(flag.Flag, args[i-1].Text) || joined && strings.Contains(flag.Flag, name) {
				return a.From
			}
		}
	}
	var refusal *refusalError
	if errors.As(err, &refusal) && strings.HasPrefix(refusal.what, "moss ") {
		return nil // it is about the command
	}
	_, unexpected, _ := strings.Cut(err.Error(), "unexpected argument ")
	for word := range strings.FieldsSeq(err.Error()) {
		word = strings.Trim(word, `",:`)
		if !strings.HasPrefix(word, "-") && word != unexpected {
			continue
		}
		for _, a := range args {
			if name, _, _ := strings.Cut(a.Text, "="); a.From != nil && name == word {
				return a.From
			}
		}
	}
	return nil
}

// become executes another program in place of moss; it returns only an error.
func become(program string, args []string) error {
	path, err := exec.LookPath(program)
	if err == nil {
		err = slack.Exactly(func() error { return unix.Exec(path, args, os.Environ()) })
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	return fmt.Errorf("cannot run %q: %w", args[0], err)
}

// warnUnits prints what is wrong with files before they are used.
func warnUnits(w io.Writer, problems []quadlet.Problem) (failed bool) {
	for _, p := range problems {
		fmt.Fprintln(w, p)
		failed = failed || !p.Warning
	}
	return failed
}
