package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"moss/completions"
	"moss/record/xdg"
	"moss/rootless/container"
	"moss/systemd/quadlet"
)

// CompletionCmd is "moss completion".
type CompletionCmd struct {
	Globals
	Shell string `arg:"" help:"bash, zsh or fish."`
}

func (cmd *CompletionCmd) prepare() error {
	if err := oneOf("bash", "zsh", "fish")(cmd.Shell); err != nil {
		return usagef("invalid shell %q: %v", cmd.Shell, err)
	}
	return nil
}

// Run prints a script that asks moss itself only for names that come and go.
func (cmd *CompletionCmd) Run(ctx context.Context, c *call) error {
	all, err := tree()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(c.Out)
	switch cmd.Shell {
	case "bash":
		completions.Bash(w, all)
	case "zsh":
		completions.Zsh(w, all)
	case "fish":
		completions.Fish(w, all)
	}
	return w.Flush()
}

// tree is the whole grammar, for what describes it.
func tree() ([]completions.Command, error) {
	var out []completions.Command
	for i := range commands {
		e := &commands[i]
		if e.isInternal() {
			continue
		}
		cmd := e.New()
		parser, err := newParser("moss "+e.Name, cmd)
		if err != nil {
			return nil, fmt.Errorf("cannot describe command %q: %w", e.Name, err)
		}
		out = append(out, completions.Command{
			Name: e.Name, Aliases: e.Aliases, Usage: e.Usage, Help: e.Help, Text: e.Text, Example: e.Example,
			Group: e.Group, Hidden: e.Hidden, Node: parser.Model.Node, Words: words(reflect.TypeOf(cmd).Elem()),
		})
	}
	return out, nil
}

// words are the values that flags have in their "words" tags.
func words(t reflect.Type) map[string][]string {
	out := map[string][]string{}
	for _, f := range leafFields(t) {
		if w := f.Tag.Get("words"); w != "" {
			out[longName(f.StructField)] = strings.Fields(w)
		}
	}
	return out
}

// CompleteCmd is "moss __complete", which completion scripts ask.
type CompleteCmd struct {
	Globals
	Kind string `arg:"" help:"containers, running, stopped, paused, images, networks, volumes, secrets, registries or units."`
}

// Run prints one name a line. It opens nothing but records, and says nothing of
// errors: a person is typing.
func (cmd *CompleteCmd) Run(ctx context.Context, c *call) error {
	var names []string
	switch cmd.Kind {
	case "containers", "running", "stopped", "paused":
		names = c.completeContainers(cmd.Kind)
	case "images":
		list, _ := c.Engine.Images.List()
		for _, img := range list {
			names = append(names, img.Names...)
		}
	case "networks":
		for _, name := range recordNames(c.Engine.Paths.Networks()) {
			names = append(names, strings.TrimSuffix(name, ".json"))
		}
		names = append(names, "none", "host", "private")
	case "volumes":
		names = recordNames(c.Engine.Volumes.All())
	case "secrets":
		list, _ := c.Engine.Secrets.List()
		for _, s := range list {
			names = append(names, s.Name)
		}
	case "registries":
		names = c.completeRegistries()
	case "units":
		dirs, _ := unitDirs()
		for _, f := range quadlet.Load(dirs).Files {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	w := bufio.NewWriter(c.Out)
	for _, name := range slices.Compact(names) {
		fmt.Fprintln(w, name)
	}
	return w.Flush()
}

func (c *call) completeContainers(kind string) (names []string) {
	all, _ := c.Engine.All()
	for _, ctr := range all {
		status := container.Status("")
		if kind != "containers" {
			status = ctr.Look().Status
		}
		if kind == "containers" || kind == "running" && status == container.StatusRunning ||
			kind == "stopped" && status.CanStart() || kind == "paused" && status == container.StatusPaused {
			names = append(names, ctr.Spec.Name)
		}
	}
	return names
}

// completeRegistries are those whose credentials are known, and those that images are of.
func (c *call) completeRegistries() (names []string) {
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), xdg.Config(os.Getenv)} {
		if !filepath.IsAbs(dir) {
			continue
		}
		var auth struct {
			Auths map[string]struct{} `json:"auths"`
		}
		data, err := os.ReadFile(filepath.Join(dir, "containers", "auth.json"))
		if err != nil || json.Unmarshal(data, &auth) != nil {
			continue
		}
		for name := range auth.Auths {
			names = append(names, name)
		}
	}
	list, _ := c.Engine.Images.List()
	for _, img := range list {
		for _, name := range img.Names {
			if host, _, ok := strings.Cut(name, "/"); ok && strings.ContainsAny(host, ".:") {
				names = append(names, host)
			}
		}
	}
	return names
}

func recordNames(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// ManCmd is "moss man": it writes the man pages, which are committed.
type ManCmd struct {
	Globals
	Dir string `arg:"" help:"Directory to write to."`
}

func (cmd *ManCmd) prepare() error {
	if err := directory(cmd.Dir); err != nil {
		return fmt.Errorf("cannot write man pages to %q: %w", cmd.Dir, err)
	}
	return nil
}

// Run replaces the pages in Dir.
func (cmd *ManCmd) Run(ctx context.Context, c *call) error {
	all, err := tree()
	if err != nil {
		return err
	}
	globals, err := newParser("moss", &Globals{})
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(cmd.Dir, "moss*.[15]"))
	if err != nil {
		return err
	}
	pages := completions.Man(all, globals.Model.Flags)
	for _, path := range old {
		if _, kept := pages[filepath.Base(path)]; !kept {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(cmd.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
