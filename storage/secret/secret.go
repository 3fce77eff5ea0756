// Package secret keeps secrets: small contents with a name that containers get
// without their being in an image, an environment or an archive.
package secret

import (
	"crypto/rand"
	"encoding/hex"
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

// What Secrets' methods may answer; tell them apart with errors.Is.
var (
	ErrNotFound error = notFound{}
	ErrExists   error = exists{}
	ErrInvalid  error = invalid{}
)

// The kinds have the methods by which containerd's errdefs knows errors of
// packages that do not import it.
type (
	notFound struct{}
	exists   struct{}
	invalid  struct{}
)

func (notFound) Error() string    { return "no such secret" }
func (notFound) NotFound()        {}
func (notFound) Hint() string     { return "'moss secret ls' lists the secrets" }
func (exists) Error() string      { return "secret name in use" }
func (exists) AlreadyExists()     {}
func (invalid) Error() string     { return "invalid secret" }
func (invalid) InvalidParameter() {}

// MaxSize is how many bytes a secret has at most.
const MaxSize = 512000

// Secret is the record <root>/secrets/<name>.json. The content is the driver's.
type Secret struct {
	ID               string // 25 hexadecimal digits
	Name             string
	Driver           string // file, pass or shell
	Options          map[string]string
	Labels           map[string]string
	Created, Updated time.Time
}

// Options of Create.
type Options struct {
	Driver  string // "" is file
	Options map[string]string
	Labels  map[string]string
	// Replace takes the place of a secret of that name.
	Replace bool
}

// Secrets are the secrets of one user.
type Secrets struct{ dir string }

// Open names the secrets below root; it reads nothing yet.
func Open(root string) *Secrets { return &Secrets{dir: filepath.Join(root, "secrets")} }

func (s *Secrets) record(name string) string { return filepath.Join(s.dir, name+".json") }

// maxName leaves room in a file name for what record adds.
const maxName = 200

// CheckName says why a name cannot be a secret's: 1 to 200 characters, of which
// none is = / , or a control character.
func CheckName(name string) error {
	bad := func(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("=/,", r) }
	if name == "" || len(name) > maxName || strings.HasPrefix(name, ".") || strings.IndexFunc(name, bad) >= 0 {
		return fmt.Errorf("%w name %q: names have 1 to %d characters, begin with no dot, and hold no =, / or comma", ErrInvalid, name, maxName)
	}
	return nil
}

// Create keeps data under a name. It is there whole or not at all. The error is
// ErrExists if the name is taken.
func (s *Secrets) Create(name string, data []byte, o Options) (*Secret, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data) > MaxSize {
		return nil, fmt.Errorf("cannot create secret %q: %w: it has %d bytes, and may have 1 to %d", name, ErrInvalid, len(data), MaxSize)
	}
	now := time.Now().UTC()
	made := &Secret{ID: newID(), Name: name, Driver: o.Driver, Options: o.Options, Labels: o.Labels, Created: now, Updated: now}
	if made.Driver == "" {
		made.Driver = "file"
	}
	if err := s.create(made, data, o.Replace); err != nil {
		return nil, fmt.Errorf("cannot create secret %q: %w", name, err)
	}
	return made, nil
}

func (s *Secrets) create(made *Secret, data []byte, replace bool) error {
	d, err := s.driver(made)
	if err != nil {
		return err
	}
	old, err := s.Get(made.Name)
	switch {
	case err == nil && !replace:
		return ErrExists
	case err != nil && !errors.Is(err, ErrNotFound):
		return err
	}
	// The directory is its owner's whatever the umask is.
	if err := makePrivate(s.dir); err != nil {
		return err
	}
	if err := d.store(made.ID, data); err != nil {
		return err
	}
	if err := s.put(made, replace); err != nil {
		return errors.Join(err, d.remove(made.ID))
	}
	if old == nil {
		return nil
	}
	oldDriver, err := s.driver(old)
	if err == nil {
		err = oldDriver.remove(old.ID)
	}
	if err != nil {
		return fmt.Errorf("it is replaced, but the old content is still there: %w", err)
	}
	return nil
}

// put writes the record. Without replace it fails if there is one.
func (s *Secrets) put(made *Secret, replace bool) error {
	if replace {
		return record.Write(s.record(made.Name), made, true)
	}
	beside := filepath.Join(s.dir, "."+made.ID)
	if err := record.Write(beside, made, true); err != nil {
		return err
	}
	defer os.Remove(beside)
	err := os.Link(beside, s.record(made.Name)) // fails if it is there, in one step
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

func newID() string {
	var b [13]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return hex.EncodeToString(b[:])[:25]
}

// Get returns the secret of that name, or ErrNotFound.
func (s *Secrets) Get(name string) (*Secret, error) {
	if CheckName(name) != nil {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	found := new(Secret)
	ok, err := record.Read(s.record(name), found)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// Find is Get, or the one secret whose ID begins so.
func (s *Secrets) Find(name string) (*Secret, error) {
	found, err := s.Get(name)
	if !errors.Is(err, ErrNotFound) || name == "" {
		return found, err
	}
	all, lerr := s.List()
	if lerr != nil {
		return nil, lerr
	}
	for _, candidate := range all {
		if !strings.HasPrefix(candidate.ID, name) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w ID %q: more than one secret's begins so", ErrInvalid, name)
		}
		found = candidate
	}
	if found == nil {
		return nil, err
	}
	return found, nil
}

// List returns every secret, by name.
func (s *Secrets) List() ([]*Secret, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list secrets: %w", err)
	}
	var all []*Secret
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		found, err := s.Get(name)
		if errors.Is(err, ErrNotFound) {
			continue // removed since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, found)
	}
	slices.SortFunc(all, func(a, b *Secret) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Read returns the content of a secret.
func (s *Secrets) Read(name string) ([]byte, error) {
	found, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	d, err := s.driver(found)
	if err != nil {
		return nil, err
	}
	data, err := d.load(found.ID)
	if err != nil {
		return nil, fmt.Errorf("cannot read secret %q: %w", name, err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("cannot read secret %q: %w: it has more than %d bytes", name, ErrInvalid, MaxSize)
	}
	return data, nil
}

// Remove removes a secret and its content. Containers keep their copies.
func (s *Secrets) Remove(name string) error {
	found, err := s.Get(name)
	if err != nil {
		return err
	}
	d, err := s.driver(found)
	if err == nil {
		err = d.remove(found.ID)
	}
	if err == nil {
		err = os.Remove(s.record(found.Name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove secret %q: %w", name, err)
	}
	return nil
}
