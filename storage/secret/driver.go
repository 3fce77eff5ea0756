package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/userns/slack"
)

// driver is where contents are kept, by the secret's ID.
type driver interface {
	store(id string, data []byte) error
	load(id string) ([]byte, error)
	remove(id string) error
}

// driver is the one that a secret was made with. Its options are completed.
func (s *Secrets) driver(of *Secret) (driver, error) {
	if of.Options == nil {
		of.Options = map[string]string{}
	}
	if of.Labels == nil {
		of.Labels = map[string]string{}
	}
	switch of.Driver {
	case "file":
		return s.fileDriver(of.Options)
	case "pass":
		return newPass(of.Options)
	case "shell":
		return newShell(of.Options)
	}
	return nil, fmt.Errorf("%w driver %q: want file, pass or shell", ErrInvalid, of.Driver)
}

func knownOptions(driver string, options map[string]string, known ...string) error {
	for key := range options {
		if !slices.Contains(known, key) {
			return fmt.Errorf("%w option %q of driver %s: known are %s", ErrInvalid, key, driver, strings.Join(known, ", "))
		}
	}
	return nil
}

// makePrivate makes a directory that only its owner can enter.
func makePrivate(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// file keeps each content in a file, unencrypted, that only its owner can read.
type file struct{ dir string }

func (s *Secrets) fileDriver(options map[string]string) (driver, error) {
	if err := knownOptions("file", options, "path"); err != nil {
		return nil, err
	}
	if options["path"] == "" {
		options["path"] = filepath.Join(s.dir, "filedriver")
	}
	if !filepath.IsAbs(options["path"]) {
		return nil, fmt.Errorf("%w option path=%s: it is not absolute", ErrInvalid, options["path"])
	}
	return file{options["path"]}, nil
}

func (f file) store(id string, data []byte) error {
	// A directory that was there before may have other things in it.
	if _, err := os.Stat(f.dir); errors.Is(err, fs.ErrNotExist) {
		if err := makePrivate(f.dir); err != nil {
			return err
		}
	}
	return record.Replace(filepath.Join(f.dir, id), data, 0o600, true)
}

func (f file) load(id string) ([]byte, error) { return os.ReadFile(filepath.Join(f.dir, id)) }

func (f file) remove(id string) error {
	err := os.Remove(filepath.Join(f.dir, id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// pass keeps each content encrypted by gpg, in the layout of pass(1).
type pass struct{ root, key, home string }

func newPass(options map[string]string) (driver, error) {
	if err := knownOptions("pass", options, "root", "key", "gpghomedir"); err != nil {
		return nil, err
	}
	if options["root"] == "" {
		options["root"] = os.Getenv("PASSWORD_STORE_DIR")
	}
	if options["root"] == "" {
		options["root"] = filepath.Join(os.Getenv("HOME"), ".password-store")
	}
	p := pass{root: options["root"], key: options["key"], home: options["gpghomedir"]}
	if p.key != "" {
		return p, nil
	}
	if id, err := os.ReadFile(filepath.Join(p.root, ".gpg-id")); err == nil {
		p.key = strings.TrimSpace(string(id))
	}
	return p, nil
}

func (p pass) path(id string) string { return filepath.Join(p.root, id+".gpg") }

func (p pass) gpg(input []byte, args ...string) ([]byte, error) {
	if p.home != "" {
		args = append([]string{"--homedir", p.home}, args...)
	}
	return output(exec.Command("gpg", append([]string{"--batch", "--quiet"}, args...)...), input)
}

func (p pass) store(id string, data []byte) error {
	if p.key == "" {
		return fmt.Errorf("%w driver pass: there is no key: set the option key, or make %q with 'pass init'", ErrInvalid, filepath.Join(p.root, ".gpg-id"))
	}
	encrypted, err := p.gpg(data, "--encrypt", "-r", p.key, "--output", "-")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(p.root, 0o700); err != nil {
		return err
	}
	return record.Replace(p.path(id), encrypted, 0o600, true)
}

func (p pass) load(id string) ([]byte, error) { return p.gpg(nil, "--decrypt", p.path(id)) }

func (p pass) remove(id string) error { return file{p.root}.remove(id + ".gpg") }

// shell leaves everything to commands of the user's, run by sh with the ID in
// SECRET_ID; contents are on standard input and output.
type shell map[string]string

// commands are the options of the driver shell; each has to be there.
var commands = [...]string{"delete", "list", "lookup", "store"}

func newShell(options map[string]string) (driver, error) {
	if err := knownOptions("shell", options, commands[:]...); err != nil {
		return nil, err
	}
	for _, key := range commands {
		if options[key] == "" {
			return nil, fmt.Errorf("%w driver shell: the option %s is missing; it wants %s", ErrInvalid, key, strings.Join(commands[:], ", "))
		}
	}
	return shell(options), nil
}

func (s shell) run(key, id string, input []byte) ([]byte, error) {
	cmd := exec.Command("/bin/sh", "-c", s[key])
	cmd.Env = append(os.Environ(), "SECRET_ID="+id)
	out, err := output(cmd, input)
	if err != nil {
		return nil, fmt.Errorf("command %s of driver shell: %w", key, err)
	}
	return out, nil
}

func (s shell) store(id string, data []byte) error {
	listed, err := s.run("list", id, nil)
	if err != nil {
		return err
	}
	if slices.Contains(strings.Fields(string(listed)), id) {
		return ErrExists
	}
	_, err = s.run("store", id, data)
	return err
}

func (s shell) load(id string) ([]byte, error) { return s.run("lookup", id, nil) }

func (s shell) remove(id string) error {
	_, err := s.run("delete", id, nil)
	return err
}

// output runs a command and returns what it prints; of its errors, what it says.
func output(cmd *exec.Cmd, input []byte) ([]byte, error) {
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &said
	err := slack.Exactly(cmd.Run)
	if err == nil {
		return out.Bytes(), nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%s is not installed: %w", cmd.Args[0], unix.ENOENT)
	}
	if text := strings.TrimSpace(said.String()); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return nil, err
}
