package config

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/record/xdg"
)

// Place says where configuration is looked for.
type Place struct {
	// Usr and Etc are the system's directories, User is the user's: each has
	// containers/ and moss/ below it. User is "" if there is no home.
	Usr, Etc, User string
	// Conf, Override, Storage and Registries are the variables that name files:
	// CONTAINERS_CONF, CONTAINERS_CONF_OVERRIDE, CONTAINERS_STORAGE_CONF and
	// CONTAINERS_REGISTRIES_CONF.
	Conf, Override, Storage, Registries string
}

// Here is the place of this process.
func Here() Place {
	p := Place{
		Usr: "/usr/share", Etc: "/etc", User: xdg.Config(os.Getenv),
		Conf: os.Getenv("CONTAINERS_CONF"), Override: os.Getenv("CONTAINERS_CONF_OVERRIDE"),
		Storage: os.Getenv("CONTAINERS_STORAGE_CONF"), Registries: os.Getenv("CONTAINERS_REGISTRIES_CONF"),
	}
	if p.Registries == "" {
		p.Registries = os.Getenv("REGISTRIES_CONFIG_PATH") // its older name
	}
	for _, path := range []*string{&p.Conf, &p.Override, &p.Storage, &p.Registries} {
		if *path == "" || filepath.IsAbs(*path) {
			continue
		}
		if dir, err := os.Getwd(); err == nil {
			*path = filepath.Join(dir, *path)
		}
	}
	return p
}

// named are the files that the environment names.
func (p Place) named() []string { return []string{p.Conf, p.Override, p.Storage, p.Registries} }

// bases are the directories that hold all the others. Whatever comes into being in
// one changes its time, and nothing in one that is not there needs to be looked at.
func (p Place) bases() []string {
	bases := make([]string, 0, 6)
	for _, dir := range [...]string{p.Usr, p.Etc, p.User} {
		if dir != "" {
			bases = append(bases, dir+"/containers", dir+"/moss")
		}
	}
	return bases
}

// Mark is the state of a file or directory; all zero: it is not there.
type Mark struct {
	Path  string
	MTime int64  `json:",omitempty"`
	Size  int64  `json:",omitempty"`
	Inode uint64 `json:",omitempty"`
}

// Look takes the mark of a path.
func Look(path string) Mark {
	m := Mark{Path: path}
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil {
		m.MTime, m.Size, m.Inode = st.Mtim.Nano(), st.Size, st.Ino
	}
	return m
}

// Record is what Load reads: a configuration, and the state of all that it was
// made from.
type Record struct {
	Place  Place
	Marks  []Mark
	Config Config
}

// settle is how long a file must have been as it is for its time to tell it from
// what it becomes: file systems' clocks are as coarse as the timer interrupt.
const settle = 20 * time.Millisecond

// Write writes the record for this place into the run directory, unless a file is
// so young that a further change might not be seen.
func (r *Record) Write(run string) error {
	for _, m := range r.Marks {
		if age := time.Since(time.Unix(0, m.MTime)); age >= 0 && age < settle {
			return nil
		}
	}
	if err := os.Mkdir(filepath.Join(run, "config"), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot keep the configuration: %w", err)
	}
	return record.Replace(r.Place.path(run), r.encode(), 0o600, false)
}

// path is one for each set of files that the environment names.
func (p Place) path(run string) string {
	hash := fnv.New64a()
	for _, name := range append(p.named(), p.Usr, p.Etc, p.User) {
		hash.Write(append([]byte(name), 0))
	}
	return run + "/config/" + strconv.FormatUint(hash.Sum64(), 36)
}

// Load returns what the files of a place set. Where no file has changed since they
// were last read, that is a handful of stat calls and the record in the run
// directory; else read is asked for a new one.
func Load(p Place, run string, read func() (*Record, error)) (*Config, error) {
	bases := p.bases()
	now := make([]Mark, len(bases))
	some := p.Conf != "" || p.Override != "" || p.Storage != "" || p.Registries != ""
	for i, base := range bases {
		now[i] = Look(base)
		some = some || now[i].Inode != 0
	}
	if !some {
		return nil, nil
	}
	if data, err := record.ReadFile(p.path(run)); err == nil {
		if r, ok := decode(string(data)); ok && r.Place == p && r.fresh(now) {
			return &r.Config, nil
		}
	}
	fresh, err := read()
	if err != nil {
		return nil, err
	}
	return &fresh.Config, nil
}

// fresh says whether everything is as it was. The marks of the bases come first.
func (r *Record) fresh(bases []Mark) bool {
	if len(r.Marks) < len(bases) || !slices.Equal(r.Marks[:len(bases)], bases) {
		return false
	}
	return !slices.ContainsFunc(r.Marks[len(bases):], func(m Mark) bool { return Look(m.Path) != m })
}

// Bases begin a record's marks.
func (p Place) Bases() []Mark {
	var marks []Mark
	for _, base := range p.bases() {
		marks = append(marks, Look(base))
	}
	return marks
}
