package files

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"moss/config"
)

// Read reads every file of a place, for the user whom the host knows as uid.
func Read(p config.Place, uid int) (*config.Record, error) {
	r := &reader{place: p, uid: strconv.Itoa(uid), record: &config.Record{Place: p, Marks: p.Bases()}, appends: map[string]bool{}}
	r.containers()
	r.storage()
	r.registries()
	r.moss()
	if r.err != nil {
		return nil, r.err
	}
	return r.record, nil
}

// reader reads one file after the other and stops at the first that is broken.
type reader struct {
	place   config.Place
	uid     string
	record  *config.Record
	prefix  string          // of the keys of the file being read
	appends map[string]bool // lists that grow from file to file
	err     error
}

// containers reads containers.conf(5): what is read later wins.
func (r *reader) containers() {
	if r.place.Conf != "" {
		r.named("CONTAINERS_CONF", r.place.Conf)
	} else {
		for _, base := range []string{r.place.Usr, r.place.Etc} {
			dir := filepath.Join(base, "containers")
			r.file(filepath.Join(dir, "containers.conf"))
			r.dropIns(filepath.Join(dir, "containers.conf.d"))
			r.file(filepath.Join(dir, "containers.rootless.conf"))
			for _, name := range []string{"containers.rootless.d", "containers.rootless.conf.d"} {
				r.dropIns(filepath.Join(dir, name))
				r.dropIns(filepath.Join(dir, name, r.uid))
			}
		}
		if r.place.User != "" {
			dir := filepath.Join(r.place.User, "containers")
			r.file(filepath.Join(dir, "containers.conf"))
			r.dropIns(filepath.Join(dir, "containers.conf.d"))
		}
	}
	if r.place.Override != "" {
		r.named("CONTAINERS_CONF_OVERRIDE", r.place.Override)
	}
}

// storage reads one storage.conf: its files do not add up.
func (r *reader) storage() {
	if r.place.Storage != "" {
		r.named("CONTAINERS_STORAGE_CONF", r.place.Storage)
		return
	}
	r.firstOf("containers/storage.conf")
}

// registries reads one registries.conf, and the files beside them all.
func (r *reader) registries() {
	r.prefix = "registries."
	defer func() { r.prefix = "" }()
	if r.place.Registries != "" {
		r.named("CONTAINERS_REGISTRIES_CONF", r.place.Registries)
	} else {
		r.firstOf("containers/registries.conf")
	}
	for _, base := range []string{r.place.Usr, r.place.Etc, r.place.User} {
		if base != "" {
			r.dropIns(filepath.Join(base, "containers/registries.conf.d"))
		}
	}
}

// moss reads moss.conf(5), which may have the tables of containers.conf too.
func (r *reader) moss() {
	r.prefix = "moss."
	for _, base := range []string{r.place.Usr, r.place.Etc, r.place.User} {
		if base != "" {
			r.file(filepath.Join(base, "moss/moss.conf"))
			r.dropIns(filepath.Join(base, "moss/moss.conf.d"))
		}
	}
}

// firstOf reads the file of the user if there is one, else the administrator's,
// else the distribution's.
func (r *reader) firstOf(name string) {
	for _, base := range []string{r.place.User, r.place.Etc, r.place.Usr} {
		if base != "" && r.file(filepath.Join(base, name)) {
			return
		}
	}
}

// named reads a file that must be there, since a variable names it.
func (r *reader) named(variable, path string) {
	if path == os.DevNull || r.file(path) || r.err != nil {
		return
	}
	r.err = fmt.Errorf("cannot read configuration %q, which %s names: %w", path, variable, fs.ErrNotExist)
}

// dropIns reads the files of a directory that end in .conf, by name.
func (r *reader) dropIns(dir string) {
	entries, err := os.ReadDir(dir)
	if r.absent(dir, err) {
		return
	}
	r.record.Marks = append(r.record.Marks, config.Look(dir))
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".conf") {
			r.file(filepath.Join(dir, e.Name()))
		}
	}
}

// file reads a file and says whether it is there.
func (r *reader) file(path string) bool {
	if r.err != nil {
		return false
	}
	mark := config.Look(path) // before it is read: a change meanwhile is seen later
	data, err := os.ReadFile(path)
	if r.absent(path, err) {
		return false
	}
	r.record.Marks = append(r.record.Marks, mark)
	all, err := parse(path, data)
	if err != nil {
		r.err = err
		return true
	}
	r.rename(all)
	for _, f := range all {
		if err := r.set(f); err != nil && r.err == nil {
			r.err = &config.Error{Origin: f.at, Err: fmt.Errorf("%s: %w", f.key, err)}
		}
	}
	return true
}

// absent says whether there is nothing to read. What is there under the name of
// a link into nothing may come into being without its directory's knowing.
func (r *reader) absent(path string, err error) bool {
	if err == nil {
		return r.err != nil
	}
	if !errors.Is(err, fs.ErrNotExist) && r.err == nil {
		r.err = fmt.Errorf("cannot read configuration: %w", err)
	}
	if _, err := os.Lstat(path); err == nil || slices.Contains([]string{r.place.Conf, r.place.Override, r.place.Storage, r.place.Registries}, path) {
		r.record.Marks = append(r.record.Marks, config.Mark{Path: path})
	}
	return true
}

// rename gives the keys of a file the names that config knows: registries by
// their prefixes in place of their numbers.
func (r *reader) rename(all []found) {
	names := map[string]string{}
	for _, of := range []string{"location", "prefix"} { // the prefix counts, if there is one
		for _, f := range all {
			part := strings.Split(f.key, ".")
			if r.prefix == "registries." && len(part) == 3 && part[0] == "registry" && part[2] == of && len(f.values) > 0 {
				names[part[1]] = f.values[0].text
			}
		}
	}
	for i := range all {
		part := strings.Split(all[i].key, ".")
		if part[0] == "registry" && len(part) > 2 && r.prefix == "registries." {
			all[i].key = "registry[" + names[part[1]] + "]"
			for n, p := range part[2:] {
				if _, err := strconv.Atoi(p); err == nil && n > 0 {
					all[i].key += "[" + p + "]"
				} else {
					all[i].key += "." + p
				}
			}
		}
		if r.prefix == "registries." || r.prefix == "moss." && !strings.Contains(all[i].key, ".") {
			all[i].key = r.prefix + all[i].key
		}
	}
}

// set lays a line of a file over what earlier ones have set.
func (r *reader) set(f found) error {
	c := &r.record.Config
	if strings.Contains(f.key, "\x00") {
		return errors.New("the key is none")
	}
	known := config.Lookup(f.key)
	if known == nil {
		c.Warnings = append(c.Warnings, config.Warning{Origin: f.at, Text: "moss does not know the key " + f.key})
	} else if known.Useless != "" {
		c.Warnings = append(c.Warnings, config.Warning{Origin: f.at, Text: f.key + " has no effect: " + known.Useless})
	} else if err := check(known.Kind, &f); err != nil {
		return err
	}
	s := c.Find(f.key)
	if s == nil {
		c.Settings = append(c.Settings, config.Setting{Key: f.key})
		s = &c.Settings[len(c.Settings)-1]
	}
	if f.append != nil {
		r.appends[f.key] = *f.append
	}
	if !f.list || !r.appends[f.key] {
		s.Values, s.From = nil, nil
	}
	for _, v := range f.values {
		s.Values, s.From = append(s.Values, v.text), append(s.From, v.at)
	}
	if len(s.From) == 0 {
		s.From = []config.Origin{f.at}
	}
	return nil
}

// check compares a value with what its key takes.
func check(kind config.Kind, f *found) error {
	for _, v := range f.values {
		if strings.Contains(v.text, "\x00") {
			return errors.New("it has a character that no string of the system can hold")
		}
	}
	if kind == config.List || f.list {
		switch {
		case strings.HasPrefix(f.key, "registries.registry["):
		case kind != config.List:
			return errors.New("it is a list")
		case !f.list:
			return errors.New("want a list: [\"…\"]")
		}
		for _, v := range f.values {
			if v.kind != unstable.String && v.kind != unstable.InlineTable {
				return fmt.Errorf("want a list of strings, not %s", v.text)
			}
		}
		return nil
	}
	v := f.values[0]
	switch kind {
	case config.Bool:
		if v.kind != unstable.Bool {
			return fmt.Errorf("it is %q: want true or false", v.text)
		}
	case config.Switch:
		if _, err := strconv.ParseBool(v.text); err != nil {
			return fmt.Errorf("it is %q: want true or false", v.text)
		}
	case config.Int:
		if _, err := strconv.ParseInt(v.text, 10, 64); err != nil || v.kind != unstable.Integer {
			return fmt.Errorf("it is %q: want a whole number", v.text)
		}
	case config.String:
		if v.kind != unstable.String && !strings.HasPrefix(f.key, "registries.") {
			return fmt.Errorf("it is %s: want a string", v.text)
		}
	}
	return nil
}
