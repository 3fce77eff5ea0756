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
	units := set.Convert(self())
	problems := slices.Concat(quadlet.Problems(set, units), commandProblems(units))
	slices.SortStableFunc(problems, func(a, b quadlet.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), a.Line-b.Line)
	})
	count, errs, warnings := 0, 0, 0
	for _, f := range set.Files {
		if asked(f.Path, cmd.Path, dirs) {
			count++
		}
	}
	mine := slices.DeleteFunc(slices.Clone(units), func(u *quadlet.Unit) bool { return !asked(u.Source.Path, cmd.Path, dirs) })
	of := map[quadlet.Problem]bool{} // these, in whichever file
	for _, p := range slices.Concat(quadlet.Problems(&quadlet.Set{}, mine), commandProblems(mine)) {
		of[p] = true
	}
	for _, p := range problems {
		if !of[p] && !asked(p.Path, cmd.Path, dirs) {
			continue
		}
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
	return quadlet.Load(slices.Concat(dirs, unitDirs()), files...), dirs, nil
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

// commandProblems lets moss's own grammar judge the command lines of the services.
func commandProblems(units []*quadlet.Unit) (out []quadlet.Problem) {
	for _, u := range units {
		if u.Failed() {
			continue // its lines are not whole
		}
		for _, command := range u.Commands {
			for _, p := range commandProblemsOf(u, command.Args) {
				if p.Line == 0 && slices.ContainsFunc(out, func(q quadlet.Problem) bool { return q.Path == p.Path && q.Line == 0 && q.Warning }) {
					continue // of another command of the same noun
				}
				if !slices.Contains(out, p) {
					out = append(out, p)
				}
			}
		}
	}
	return out
}

// commandProblemsOf are those of one command line: what an error is about is left out,
// and the rest judged again.
func commandProblemsOf(u *quadlet.Unit, args []quadlet.Arg) (out []quadlet.Problem) {
	all := len(args)
	for {
		err := checkCommand(args[1:])
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

// isLater says whether a command line may be right another day: moss may learn what
// it refuses, and a file of the host may be made.
func isLater(err error) bool {
	var refusal *refusalError
	return errors.As(err, &refusal) || errors.Is(err, fs.ErrNotExist)
}

// checkCommand says what moss would say about a command line.
func checkCommand(args []quadlet.Arg) error {
	var words []string
	for _, a := range args {
		word, _ := resolved(a.Text)
		words = append(words, word)
	}
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
			if name, _, joined := strings.Cut(text, "="); strings.Contains(flag.Flag, args[i-1].Text) || joined && strings.Contains(flag.Flag, name) {
				return a.From
			}
		}
	}
	var refusal *refusalError
	if errors.As(err, &refusal) && strings.HasPrefix(refusal.what, "moss ") {
		return nil // it is about the command
	}
	for word := range strings.FieldsSeq(err.Error()) {
		word = strings.Trim(word, `",:`)
		if !strings.HasPrefix(word, "-") {
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

// become executes another program in place of moss.
func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("cannot run %s: %w", args[0], err)
	}
	err = slack.Exactly(func() error { return unix.Exec(path, args, os.Environ()) })
	return fmt.Errorf("cannot run %s: %w", args[0], err)
}

// warnUnits prints what is wrong with files before they are used.
func warnUnits(w io.Writer, problems []quadlet.Problem) (failed bool) {
	for _, p := range problems {
		fmt.Fprintln(w, p)
		failed = failed || !p.Warning
	}
	return failed
}
