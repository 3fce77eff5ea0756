package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
	"moss/storage/image"
)

// Entries lists what the policy says.
func (p *Policy) Entries() []image.TrustEntry {
	var out []image.TrustEntry
	add := func(transport, name, repo string, list []Requirement) {
		for _, r := range list {
			out = append(out, image.TrustEntry{Transport: transport, Name: name, RepoName: repo, Keys: r.keyNames(), Type: r.word()})
		}
	}
	add("all", "* (default)", "default", p.Default)
	for _, transport := range slices.Sorted(maps.Keys(p.Transports)) {
		scopes := p.Transports[transport]
		shown := transport
		if transport == "docker" {
			shown = "repository"
		}
		for _, scope := range slices.Sorted(maps.Keys(scopes)) {
			add(shown, scope, scope, scopes[scope])
		}
	}
	return out
}

// word is how a requirement is called in lists.
func (r *Requirement) word() string {
	switch r.Type {
	case Accept:
		return "accept"
	case SignedBy:
		return "signed"
	}
	return r.Type
}

func (r *Requirement) keyNames() []string {
	names := slices.Clone(r.KeyPaths)
	if r.KeyPath != "" {
		names = append(names, r.KeyPath)
	}
	return names
}

// Raw is the file, as it is; "" if there is none.
func (p *Policy) Raw() (string, error) {
	if p.path == "" {
		data, err := json.MarshalIndent(p, "", "    ")
		return string(data) + "\n", err
	}
	data, err := os.ReadFile(p.path)
	return string(data), err
}

// Set says what an image of a scope must satisfy, in the file at path or, with "",
// in the user's, which begins as the machine's. The scope is "default", a registry,
// or a part of one down to a tag.
func Set(path, scope, kind string, keys []string) error {
	if err := set(path, scope, kind, keys); err != nil {
		return fmt.Errorf("cannot set trust for %q: %w", scope, err)
	}
	return nil
}

func set(path, scope, kind string, keys []string) error {
	var list []Requirement
	switch kind {
	case "accept":
		list = []Requirement{{Type: Accept}}
	case Reject:
		list = []Requirement{{Type: Reject}}
	case SigstoreSigned:
		for _, key := range keys { // all of them must have signed
			full, err := filepath.Abs(key)
			if err != nil {
				return err
			}
			r := Requirement{Type: SigstoreSigned, KeyPath: full}
			if _, err := r.keys(); err != nil {
				return err
			}
			list = append(list, r)
		}
	}
	if err := check(list); err != nil {
		return err
	}
	if err := checkScope(scope); err != nil {
		return err
	}
	p, err := Load(path)
	if path != "" && errors.Is(err, fs.ErrNotExist) {
		p, err = &Policy{Default: []Requirement{{Type: Accept}}}, nil
	}
	if err != nil {
		return err
	}
	if path == "" {
		path = os.Getenv("CONTAINERS_POLICY_JSON")
	}
	if path == "" {
		path = UserPath()
	}
	if scope == "default" {
		p.Default = list
	} else {
		if p.Transports == nil {
			p.Transports = map[string]map[string][]Requirement{}
		}
		if p.Transports["docker"] == nil {
			p.Transports["docker"] = map[string][]Requirement{}
		}
		p.Transports["docker"][scope] = list
	}
	data, err := json.MarshalIndent(p, "", "    ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return record.Replace(path, append(data, '\n'), 0o644, true)
}

// checkScope wants "default", a registry, *.DOMAIN, or a name below a registry.
func checkScope(scope string) error {
	if scope == "default" {
		return nil
	}
	name := strings.TrimPrefix(scope, "*.")
	if strings.HasSuffix(name, "/") || strings.Contains(name, "://") {
		return errors.New("want default, a registry, or a repository of one")
	}
	probe := name
	if !strings.Contains(name, "/") {
		probe += "/repository"
	}
	r, err := image.Parse(probe)
	if err != nil {
		return err
	}
	if r.Registry == "" && strings.Contains(name, "/") {
		return fmt.Errorf("the name of a registry comes first, such as docker.io/%s", name)
	}
	return nil
}
