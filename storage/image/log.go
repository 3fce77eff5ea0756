package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"moss/record"
)

// LogEntry is one line of the log: from then on a name has meant that image.
type LogEntry struct {
	Time   time.Time
	Name   string // fully qualified
	ID     string `json:",omitempty"` // "": nothing
	Digest string `json:",omitempty"` // of the image's manifest
	Verb   string // what was done: pull, load, import, commit, tag, untag, rmi, rollback…
	Source string `json:",omitempty"` // from what: a file, a name, a container
}

// maxLog is when a log is begun anew; the one before is kept.
const maxLog = 8 << 20

// logPath is the file <root>/images/log: JSON, a line each, appended by whoever
// gives or takes a name.
func logPath(root string) string { return filepath.Join(root, "images", "log") }

// AppendLog adds lines to the log of names. Each begins and ends with a newline, so
// that one that a full disk or a crash cut short spoils no other. It is written
// after what it tells: a crash between loses the line, not the name.
func AppendLog(root string, entries ...LogEntry) error {
	var b []byte
	for _, e := range entries {
		line, err := record.Encode(e)
		if err != nil {
			return err
		}
		b = append(append(append(b, '\n'), line...), '\n')
	}
	if len(b) == 0 {
		return nil
	}
	path := logPath(root)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot note what names mean: %w", err)
	}
	_, err = f.Write(b)
	if info, serr := f.Stat(); serr == nil && info.Size() > maxLog {
		err = errors.Join(err, os.Rename(path, path+".old"))
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot note what names mean: %w", err)
	}
	return nil
}

// Log reads what a name has meant, or with "" every name, oldest first.
func (im *Images) Log(name string) ([]LogEntry, error) {
	var all []LogEntry
	for _, path := range []string{logPath(im.root) + ".old", logPath(im.root)} {
		data, err := record.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the log of names: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			var e LogEntry
			if len(line) < 2 || record.Decode([]byte(line), &e) != nil || name != "" && e.Name != name {
				continue
			}
			all = append(all, e)
		}
	}
	return all, nil
}

// LogName finds the name in the log that a user means: as it is completed, or the
// only one that ends so.
func (im *Images) LogName(name string) (string, error) {
	r, err := Parse(name)
	if err != nil {
		return "", err
	}
	all, err := im.Log("")
	if err != nil {
		return "", err
	}
	known := map[string]bool{}
	for _, e := range all {
		known[e.Name] = true
	}
	complete := r.Complete()
	local := r
	if r.Registry == "" {
		local.Registry = "localhost"
	}
	tag := ":" + complete.Tag
	for _, try := range []string{local.Name() + tag, complete.Name() + tag} {
		if known[try] {
			return try, nil
		}
	}
	var found []string
	for known := range known {
		if strings.HasSuffix(known, "/"+r.Repository+tag) {
			found = append(found, known)
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("%w: nothing is noted of the name %q", ErrNotFound, name)
	}
	return "", fmt.Errorf("%w %q: %s", ErrAmbiguous, name, strings.Join(found, ", "))
}

// Previous is what a name meant before it came to mean what it means, of its log,
// oldest first; the zero entry if it was nothing. What was rolled back is not
// before anything: each roll back goes further.
func Previous(log []LogEntry) LogEntry {
	var meant []LogEntry
	for _, e := range log {
		if e.Verb == VerbRollback {
			n := len(meant) - 1
			for n >= 0 && meant[n].ID != e.ID {
				n--
			}
			if n >= 0 {
				meant = meant[:n+1]
				continue
			}
		}
		if n := len(meant); n == 0 || meant[n-1].ID != e.ID {
			meant = append(meant, e)
		}
	}
	for n := len(meant) - 2; n >= 0; n-- {
		if meant[n].ID != "" && meant[n].ID != meant[len(meant)-1].ID {
			return meant[n]
		}
	}
	return LogEntry{}
}

// VerbRollback is the Verb of a roll back.
const VerbRollback = "rollback"

// Meant is the last line of a log about an image, by its ID, the ID's first digits,
// or its digest.
func Meant(log []LogEntry, to string) (LogEntry, error) {
	id := strings.TrimPrefix(to, "sha256:")
	for _, e := range slices.Backward(log) {
		if e.ID != "" && len(id) >= minPrefix && strings.HasPrefix(e.ID, id) || e.Digest != "" && e.Digest == to {
			return e, nil
		}
	}
	return LogEntry{}, fmt.Errorf("%w: it has never meant %q", ErrNotFound, to)
}
