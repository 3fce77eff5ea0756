package quadlet

import (
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"moss/record/xdg"
)

// Set is all quadlet files that are read together.
type Set struct {
	Files    []*File
	Problems []Problem // of no file in particular: a directory that cannot be read
	problems map[*File][]Problem
	byName   map[string]*File
	moss     string // the program that the services start
}

// Dirs are the directories where a user's quadlet files lie, the first of which
// counts where a name occurs twice. environ answers as os.Getenv does. A relative one
// of QUADLET_UNIT_DIRS is left in: Load complains of it.
func Dirs(environ func(string) string, uid int) []string {
	if list := environ("QUADLET_UNIT_DIRS"); list != "" {
		var out []string
		for _, dir := range strings.Split(list, ":") {
			if dir != "" {
				out = append(out, dir)
			}
		}
		return out
	}
	var out []string
	if run := environ("XDG_RUNTIME_DIR"); filepath.IsAbs(run) {
		out = append(out, filepath.Join(run, "containers/systemd"))
	}
	if dir := Home(environ); dir != "" {
		out = append(out, dir)
	}
	for _, base := range []string{"/etc/containers/systemd/users", "/usr/share/containers/systemd/users"} {
		out = append(out, filepath.Join(base, strconv.Itoa(uid)), base)
	}
	return out
}

// Home is the directory for the files that a user writes; "" where none is known.
func Home(environ func(string) string) string {
	if dir := xdg.Config(environ); dir != "" {
		return filepath.Join(dir, "containers/systemd")
	}
	return ""
}

// Real is a path without links: what of it is not there stays as it is.
func Real(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil || path == filepath.Dir(path) {
		if err != nil {
			return path
		}
		return real
	}
	return filepath.Join(Real(filepath.Dir(path)), filepath.Base(path))
}

// Load reads the files in the directories, and in those below them. A directory that
// is not there has none. Files that are named beside count before those, whatever is
// called as they are.
func Load(dirs []string, files ...string) *Set {
	l := newLoader()
	for _, path := range files {
		l.file(path, filepath.Base(path), path)
	}
	for _, path := range files { // what they refer to may lie beside them
		entries, _ := os.ReadDir(filepath.Dir(path))
		for _, e := range entries {
			l.dropIn(filepath.Join(filepath.Dir(path), e.Name()), e)
			if IsQuadlet(e.Name()) && !e.IsDir() {
				beside := filepath.Join(filepath.Dir(path), e.Name())
				l.file(beside, e.Name(), beside)
			}
		}
	}
	l.walk(dirs)
	return l.set
}

// LoadFor is Load of the directories as if what lies below from were in the directory
// to, which is below one of them; with whole, and nothing else were.
func LoadFor(from, to string, whole bool, dirs []string) *Set {
	l := newLoader()
	if real, err := filepath.EvalSymlinks(from); err == nil {
		from = real
	}
	l.from, l.to = from, to
	for _, dir := range dirs {
		if dir = Real(dir); to == dir || strings.HasPrefix(to, dir+"/") {
			l.top = dir
			break
		}
	}
	l.directory(from, from)
	if real, err := filepath.EvalSymlinks(to); err == nil && whole {
		l.seen[real] = true
	}
	l.walk(dirs)
	return l.set
}

func newLoader() *loader {
	return &loader{dirs: map[string][]string{}, set: &Set{problems: map[*File][]Problem{}, byName: map[string]*File{}}, seen: map[string]bool{}, masked: map[string]bool{}}
}

// walk finds what is in the directories, and reads all that was found.
func (l *loader) walk(dirs []string) {
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) { // of QUADLET_UNIT_DIRS: which directory that is, nobody says
			l.set.Problems = append(l.set.Problems, Problem{Path: dir, Message: "QUADLET_UNIT_DIRS: want absolute paths"})
			continue
		}
		l.top = Real(dir)
		l.directory(dir, l.top)
	}
	for _, f := range l.set.Files {
		bad := append(f.read(f.at, f.Path), l.dropIns(f)...)
		l.set.problems[f] = append(l.set.problems[f], bad...)
	}
}

// shown is the path that a file is said to have.
func (l *loader) shown(path string) string {
	if rest, ok := strings.CutPrefix(path, l.from+"/"); ok && l.from != "" {
		return filepath.Join(l.to, rest)
	}
	return path
}

func (s *Set) add(f *File) {
	s.Files = append(s.Files, f)
	s.byName[f.Name] = f
}

// find is the file of a name, or the template that it is an instance of.
func (s *Set) find(name string) *File {
	if f := s.byName[name]; f != nil {
		return f
	}
	if prefix, instance, is := template(name); is && instance != "" {
		return s.byName[prefix+"@"+filepath.Ext(name)]
	}
	return nil
}

// loader walks the search path.
type loader struct {
	set    *Set
	top    string              // what is being walked
	dirs   map[string][]string // directories of drop-ins that were met, by name
	masked map[string]bool     // names of files that are links to /dev/null
	seen   map[string]bool     // directories, by their real names: links may lead round
	// what lies below from is said to lie below to
	from, to string
}

// directory reads a directory, which may be a link; via is how it was found.
func (l *loader) directory(dir, via string) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || l.seen[real] || strings.HasSuffix(real, ".d") || l.ofOther(real) {
		return
	}
	l.seen[real] = true
	entries, err := os.ReadDir(real)
	if err != nil {
		if info, e := os.Stat(real); e == nil && info.IsDir() {
			l.set.Problems = append(l.set.Problems, Problem{Path: dir, Message: "cannot read: " + cause(err)})
		}
		return
	}
	for _, e := range entries {
		path, via := filepath.Join(real, e.Name()), filepath.Join(via, e.Name())
		l.dropIn(path, e)
		if IsQuadlet(e.Name()) && !e.IsDir() {
			l.file(path, e.Name(), via)
			continue
		}
		if e.IsDir() || e.Type()&os.ModeSymlink != 0 {
			l.directory(path, via)
		}
	}
}

// ofOther says whether a directory below one for all users is one user's: those of
// others are left alone, and the own one has been walked.
func (l *loader) ofOther(dir string) bool {
	rest, ok := strings.CutPrefix(dir, l.top+"/")
	first, _, _ := strings.Cut(rest, "/")
	_, err := strconv.Atoi(first)
	return ok && err == nil && filepath.Base(l.top) == "users"
}

// dropIn notes a directory of drop-ins.
func (l *loader) dropIn(path string, e os.DirEntry) {
	if name := e.Name(); strings.HasSuffix(name, ".d") && !e.Type().IsRegular() && !slices.Contains(l.dirs[name], path) {
		l.dirs[name] = append(l.dirs[name], path)
	}
}

func (l *loader) file(path, name, via string) {
	at := path
	path = l.shown(path)
	if target, err := os.Readlink(at); l.masked[name] || err == nil && target == "/dev/null" && l.set.byName[name] == nil {
		l.masked[name] = true // as systemd.unit(5) masks units
		return
	}
	if first := l.set.byName[name]; first != nil {
		if first.Dir == l.top && first.Path != path && l.top != "" { // the one of an earlier search path counts; of the same, who knows
			l.set.Problems = append(l.set.Problems, Problem{Path: path, Line: 1,
				Message: "this is the second " + quoted(name) + " below " + l.top + "; the first, " + first.Path + ", is the one that counts"})
		}
		return
	}
	l.set.add(&File{Name: name, Path: path, Via: l.shown(via), at: at, Dir: l.top, kind: kindOf(name)})
}

// dropIns reads what lies in the directories that belong to a file, as
// systemd.unit(5) says: the most special one of a name counts, and they are read in
// the order of their names.
func (l *loader) dropIns(f *File) (bad []Problem) {
	paths := map[string]string{}
	for _, dir := range dropInDirs(f.Name) {
		for _, at := range l.dirs[dir] {
			entries, err := os.ReadDir(at)
			if err != nil {
				bad = append(bad, Problem{Path: l.shown(at), Message: "cannot read: " + cause(err)})
				continue
			}
			for _, e := range entries {
				if name := e.Name(); strings.HasSuffix(name, ".conf") && paths[name] == "" {
					paths[name] = filepath.Join(at, name)
				}
			}
		}
	}
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if info, err := os.Stat(paths[name]); err == nil && info.Size() == 0 {
			continue // empty, or a link to /dev/null: it masks others
		}
		bad = append(bad, f.read(paths[name], l.shown(paths[name]))...)
	}
	return bad
}

// dropInDirs are the directories of a file's drop-ins, the most special one first.
func dropInDirs(name string) (out []string) {
	ext := filepath.Ext(name)
	prefix, instance, is := template(name)
	out = append(out, name+".d")
	if is && instance != "" {
		out = append(out, prefix+"@"+ext+".d")
	}
	for i := len(prefix) - 1; i > 0; i-- {
		if prefix[i] != '-' {
			continue
		}
		if is {
			out = append(out, prefix[:i+1]+"@"+ext+".d")
		}
		out = append(out, prefix[:i+1]+ext+".d")
	}
	return append(out, ext[1:]+".d")
}
