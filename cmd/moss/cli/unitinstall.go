package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/systemd/quadlet"
	"moss/systemd/user"
)

// UnitInstallCmd is "moss unit install".
type UnitInstallCmd struct {
	Globals
	Application   string   `help:"Put the files into a directory of this name, to be removed together." placeholder:"NAME"`
	Replace       bool     `short:"r" help:"Replace files of the same names."`
	ReloadSystemd *bool    `help:"Let the service manager read its units anew; true by default."`
	Path          []string `arg:"" help:"Quadlet files, or a directory of them, and other files that they use."`
}

func (cmd *UnitInstallCmd) prepare() error {
	v := &flagValues{}
	v.check(strings.ContainsAny(cmd.Application, "/") || strings.HasPrefix(cmd.Application, ".") || strings.HasSuffix(cmd.Application, ".d") || quadlet.IsQuadlet(cmd.Application), "invalid value %q for flag --application: want the name of a directory, without .d", cmd.Application)
	for _, path := range cmd.Path {
		v.check(strings.Contains(path, "://"), "cannot install %q: moss fetches no units; get the file, read it, and install it", path)
	}
	return v.err
}

// Run checks the files, copies them, and prints where to.
func (cmd *UnitInstallCmd) Run(ctx context.Context, c *call) error {
	home, err := unitHome()
	if err != nil {
		return err
	}
	files, err := cmd.files()
	if err != nil {
		return err
	}
	to := filepath.Join(home, cmd.Application)
	if cmd.Application != "" {
		done, err := c.turn(ctx, cmd.Application)
		if err != nil {
			return fmt.Errorf("cannot install %s: %w", quotedAll(cmd.Path), err)
		}
		defer done()
	}
	if err := cmd.check(c, files, to); err != nil {
		return err
	}
	for i, f := range files {
		if slices.ContainsFunc(files[:i], func(o unitFile) bool { return o.name == f.name }) {
			return fmt.Errorf("cannot install %q: it is named twice", f.name)
		}
		if _, err := os.Lstat(filepath.Join(to, f.name)); err == nil && !cmd.Replace {
			return fmt.Errorf("cannot install %q: it is there already; --replace replaces it", filepath.Join(to, f.name))
		}
	}
	if err := writeAll(files, to); err != nil {
		return err
	}
	for _, f := range files {
		fmt.Fprintln(c.Out, filepath.Join(to, f.name))
	}
	if cmd.ReloadSystemd == nil || *cmd.ReloadSystemd {
		return c.reloadUnits(ctx)
	}
	return nil
}

// unitFile is a file to be installed.
type unitFile struct {
	name string // below the directory that it goes to
	data []byte
	link string // of a link, where it leads to
	mode fs.FileMode
}

func (f *unitFile) write(dir string) error {
	path := filepath.Join(dir, f.name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil && f.link == "" {
		return record.Replace(path, f.data, f.mode, false)
	}
	if err == nil {
		if err = os.Remove(path); err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Symlink(f.link, path)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot write unit file %q: %w", path, errors.Unwrap(err))
	}
	return nil
}

// writeAll writes all of the files, or leaves the directory as it was.
func writeAll(files []unitFile, dir string) error {
	var before []unitFile
	for i, f := range files {
		path := filepath.Join(dir, f.name)
		old, err := readOld(path, f.name)
		if err == nil {
			if before = append(before, old); f.same(dir) {
				continue
			}
			err = f.write(dir)
		}
		if err == nil {
			continue
		}
		for j := range before[:min(len(before), i+1)] {
			var uerr error
			if old := before[j]; old.mode == 0 && old.link == "" { // there was none
				if uerr = os.Remove(filepath.Join(dir, old.name)); errors.Is(uerr, fs.ErrNotExist) || errors.Is(uerr, unix.ENOTDIR) {
					uerr = nil
				}
			} else if !old.same(dir) {
				uerr = old.write(dir)
			}
			err = errors.Join(err, uerr)
		}
		return err
	}
	return nil
}

// readOld is what is at a path; without mode and link it is nothing.
func readOld(path, name string) (unitFile, error) {
	old := unitFile{name: name}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return old, nil
	case err != nil:
		return old, err
	case info.Mode()&fs.ModeSymlink != 0:
		old.link, err = os.Readlink(path)
		return old, err
	case !info.Mode().IsRegular():
		return old, fmt.Errorf("cannot replace %q: it is not a file", path)
	}
	old.data, err = os.ReadFile(path)
	old.mode = info.Mode().Perm() | 0o400
	return old, err
}

// same says whether the file is in a directory as it is.
func (f *unitFile) same(dir string) bool {
	path := filepath.Join(dir, f.name)
	if f.link != "" {
		link, err := os.Readlink(path)
		return err == nil && link == f.link
	}
	old, err := os.ReadFile(path)
	info, serr := os.Lstat(path)
	return err == nil && serr == nil && info.Mode().IsRegular() && (info.Mode()^f.mode)&0o100 == 0 && bytes.Equal(old, f.data)
}

func (cmd *UnitInstallCmd) files() (out []unitFile, err error) {
	for _, path := range cmd.Path {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, fmt.Errorf("cannot install %q: %w", path, errors.Unwrap(err))
		case info.IsDir():
			if cmd.Application == "" {
				abs, err := filepath.Abs(path)
				if err != nil {
					return nil, err
				}
				cmd.Application = filepath.Base(abs)
				if err := (&UnitInstallCmd{Application: cmd.Application}).prepare(); err != nil {
					return nil, err
				}
			}
			more, err := readUnitDir(path)
			if err != nil {
				return nil, err
			}
			if err := checkLinks(path, more); err != nil {
				return nil, err
			}
			out = append(out, more...)
		case strings.HasSuffix(path, ".quadlets"):
			data, err := readUnitFile(path)
			if err != nil {
				return nil, err
			}
			more, err := splitQuadlets(path, string(data))
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
		default:
			data, err := readUnitFile(path)
			if err != nil {
				return nil, err
			}
			out = append(out, unitFile{name: filepath.Base(path), data: data, mode: info.Mode().Perm()})
		}
	}
	return out, nil
}

// readUnitFile reads a file that a user has named: none that never ends, or is no text
// that somebody has written.
func readUnitFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 1<<20) {
		return nil, fmt.Errorf("cannot read %q: it is not a regular file of at most 1 MiB", path)
	}
	data, err := os.ReadFile(path)
	return data, unreadable(err)
}

// unreadable says which file or directory cannot be read.
func unreadable(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return fmt.Errorf("cannot read %q: %w", of.Path, of.Err)
	}
	return err
}

// checkLinks refuses links that would lead elsewhere when they are in another directory.
func checkLinks(dir string, files []unitFile) error {
	for _, f := range files {
		if f.link != "" && !filepath.IsAbs(f.link) && !filepath.IsLocal(filepath.Join(filepath.Dir(f.name), f.link)) {
			return fmt.Errorf("cannot install %q: it is a link to %q, which is not in that directory", filepath.Join(dir, f.name), f.link)
		}
	}
	return nil
}

// maxUnitDir bounds what a directory of units may hold: what is larger is hardly one.
const maxUnitDir = 64 << 20

// readUnitDir reads the files below a directory, links as such; hidden
// directories are left out. The directory itself may be a link.
func readUnitDir(named string) (out []unitFile, err error) {
	total := 0
	dir, err := filepath.EvalSymlinks(named)
	if err != nil {
		return nil, unreadable(err)
	}
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(e.Name(), ".") && e.IsDir() && path != dir {
			return fs.SkipDir
		}
		if name == appliedFile || name == applyingFile {
			return nil
		}
		if e.Type()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			out = append(out, unitFile{name: name, link: link})
			return err
		}
		if !e.Type().IsRegular() {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if total += int(info.Size()); total > maxUnitDir {
			return fmt.Errorf("cannot read %q: it holds more than 64 MiB; is it a directory of units?", named)
		}
		data, err := os.ReadFile(path)
		out = append(out, unitFile{name: name, data: data, mode: info.Mode().Perm()})
		return err
	})
	return out, unreadable(err)
}

// splitQuadlets takes a file apart that holds several, between lines of "---", each
// with its name in a comment "# FileName=web".
func splitQuadlets(path, text string) (out []unitFile, err error) {
	var part []string
	start := 1
	flush := func(next int) error {
		body := strings.Join(part, "\n")
		if strings.TrimSpace(body) == "" {
			part, start = nil, next
			return nil
		}
		name, section := "", ""
		for _, line := range part {
			line = strings.TrimSpace(line)
			if rest, ok := strings.CutPrefix(line, "#"); ok && name == "" {
				if value, ok := strings.CutPrefix(strings.TrimSpace(rest), "FileName="); ok {
					name = strings.TrimSpace(value)
				}
			}
			if ext := "." + strings.ToLower(strings.Trim(line, "[]")); strings.HasPrefix(line, "[") && quadlet.IsQuadlet("x"+ext) {
				section = ext
			}
		}
		switch {
		case name == "" || strings.ContainsAny(name, "/") || strings.HasPrefix(name, "."):
			return fmt.Errorf("%s:%d: want a line '# FileName=NAME' in this part", path, start)
		case section == "":
			return fmt.Errorf("%s:%d: this part has no section such as [Container]", path, start)
		}
		out = append(out, unitFile{name: strings.TrimSuffix(name, section) + section, data: []byte(body + "\n"), mode: 0o644})
		part, start = nil, next
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		if strings.TrimSpace(line) == "---" {
			if err := flush(i + 2); err != nil {
				return nil, err
			}
			continue
		}
		part = append(part, line)
	}
	return out, flush(len(lines))
}

// check refuses files with errors: nothing is installed then.
func (cmd *UnitInstallCmd) check(c *call, files []unitFile, to string) error {
	units, problems, err := unitsAsIf(files, nil, to, false)
	if err != nil {
		return err
	}
	if warnUnits(c.Err, problems) {
		return fmt.Errorf("cannot install %s: there are errors in its files", quotedAll(cmd.Path))
	}
	if len(units) == 0 {
		return fmt.Errorf("cannot install %s: there is no quadlet file in it", quotedAll(cmd.Path))
	}
	return nil
}

// quotedAll is how an error names what it is about.
func quotedAll(names []string) string {
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, strconv.Quote(name))
	}
	return strings.Join(quoted, ", ")
}

// unitsAsIf converts files as if they were in the directory to, with others there and
// what else the user has, and returns the units of those files and what is wrong with
// them. A name that another file of the user's has is an error.
func unitsAsIf(files, others []unitFile, to string, whole bool) (units []*quadlet.Unit, problems []quadlet.Problem, err error) {
	dirs, err := unitDirs()
	if err != nil {
		return nil, nil, err
	}
	scratch, err := os.MkdirTemp("", "moss-units-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(scratch)
	for _, f := range slices.Concat(files, others) {
		if err := f.write(scratch); err != nil {
			return nil, nil, err
		}
	}
	set := quadlet.LoadFor(scratch, to, whole, dirs)
	all := set.Convert(self())
	ours := map[string]bool{}
	for _, f := range files {
		ours[filepath.Join(to, f.name)] = true
	}
	for _, u := range quadlet.Load([]string{quadlet.Home(os.Getenv)}).Files {
		i := slices.IndexFunc(files, func(f unitFile) bool { return filepath.Base(f.name) == u.Name })
		if i < 0 {
			continue
		}
		path := filepath.Join(to, files[i].name)
		if u.Path != path && (!whole || !strings.HasPrefix(u.Path, to+"/")) {
			problems = append(problems, quadlet.Problem{Path: path, Message: "you have a file of this name already: " + u.Path})
		}
	}
	for _, p := range unitProblems(set, all, func(path string) bool { return ours[path] }) {
		// What lies beside the file is there when it is installed.
		later := strings.HasSuffix(p.Message, "no such file or directory") && slices.ContainsFunc(slices.Concat(files, others), func(f unitFile) bool {
			return names(p.Message, filepath.Join(to, f.name))
		})
		if !later {
			problems = append(problems, p)
		}
	}
	for _, u := range all {
		if ours[u.Source.Path] {
			units = append(units, u)
		}
	}
	return units, problems, nil
}

// reloadUnits lets the service manager make and read the services anew; without a
// generator they are made here.
func (c *call) reloadUnits(ctx context.Context) error {
	if err := c.generateUnits(quadlet.HasGenerator("moss-generator")); err != nil {
		return err
	}
	if cgroup.ManagerSocket() == "" {
		fmt.Fprintln(c.Err, "no service manager of yours runs here; the units are there when it starts")
		return nil
	}
	bus, err := systemd.DialUnits(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	return bus.Reload(ctx)
}

// generateUnits makes the services among the user's own units. It is for those who
// cannot install a generator, which only root can; what was made before there was one
// goes, since it would outrank what that makes.
func (c *call) generateUnits(generator bool) error {
	if _, err := unitHome(); err != nil {
		return err
	}
	g := quadlet.Generator{
		Out: user.Dir(), Kept: filepath.Join(c.Dirs.Root, "units"), Moss: self(),
		Report: func(service string, p quadlet.Problem) {
			if !p.Warning {
				fmt.Fprintln(c.Err, p)
			}
		},
	}
	made := filepath.Join(c.Dirs.Root, "units.made")
	// Where this command alone looks is not where the services come from.
	dirs := quadlet.Dirs(func(name string) string {
		if name == "QUADLET_UNIT_DIRS" {
			return ""
		}
		return os.Getenv(name)
	}, cgroup.HostUID())
	if generator {
		if !exists(made) {
			return nil
		}
		dirs, g.Kept = nil, ""
	}
	_, err := g.Direct(dirs, made)
	if generator && err == nil {
		err = os.Remove(made)
	}
	return err
}
