package rootless

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/runtime"
	"moss/storage/secret"
)

// takeSecrets finds the secrets that a container wants, before anything is made.
func (e *Engine) takeSecrets(spec *container.Spec) error {
	for i := range spec.Rootfs.Secrets {
		s := &spec.Rootfs.Secrets[i]
		found, err := e.Secrets.Find(s.Name)
		if err != nil {
			return fmt.Errorf("cannot use secret %q: %w", s.Name, err)
		}
		s.Name, s.ID = found.Name, found.ID
	}
	return nil
}

// copySecrets copies their content into the container's directory: what is done
// to a secret later does not change the container.
func (e *Engine) copySecrets(spec *container.Spec, dir string) error {
	if len(spec.Rootfs.Secrets) == 0 {
		return nil
	}
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o700); err != nil {
		return err
	}
	for _, s := range spec.Rootfs.Secrets {
		data, err := e.Secrets.Read(s.Name)
		if err != nil {
			return fmt.Errorf("cannot use secret %q: %w", s.Name, err)
		}
		err = os.WriteFile(secretFile(dir, s), data, 0o600)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// NoteSecret records what was done to a secret.
func (e *Engine) NoteSecret(status string, s *secret.Secret) {
	e.Events().Write(&event.Event{Type: event.Secret, Status: status, ID: s.ID, Name: s.Name})
}

func secretFile(dir string, s container.Secret) string { return filepath.Join(dir, "secrets", s.ID) }

// secrets tells the init process of them.
func (l *launch) secrets(doc *runtime.Document) {
	for _, s := range l.c.Spec.Rootfs.Secrets {
		doc.Secrets = append(doc.Secrets, runtime.Secret{
			File: secretFile(l.c.Dir, s), Env: s.Env, Target: s.Target, UID: s.UID, GID: s.GID, Mode: s.Mode,
		})
	}
}

// secretVariables are NAME=value of the secrets that are variables: exec gives them
// to its program too.
func secretVariables(c *container.Container) ([]string, error) {
	var out []string
	for _, s := range c.Spec.Rootfs.Secrets {
		if s.Env == "" {
			continue
		}
		data, err := os.ReadFile(secretFile(c.Dir, s))
		if err != nil {
			return nil, fmt.Errorf("cannot read secret %q: %w", s.Name, err)
		}
		out = append(out, s.Env+"="+string(data))
	}
	return out, nil
}
