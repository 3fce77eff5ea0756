// Package completions renders the command grammar as bash, zsh and fish
// completions and as man pages.
//
// The scripts are static: they hold every command and flag. Only for names that
// come and go (containers, images, networks, volumes, secrets, registries, units) do they ask moss, by
// "moss __complete KIND", which prints one name a line.
package completions

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// Command is one command of the grammar.
type Command struct {
	Name          string // "volume create"
	Aliases       []string
	Usage         string // "CONTAINER..."
	Help          string // one line
	Text, Example string
	Group         string
	Hidden        bool
	Node          *kong.Node
	// Words are the values that flags may have, by the flag's name.
	Words map[string][]string
}

// names are the command's own and its aliases.
func (c Command) names() []string { return append([]string{c.Name}, c.Aliases...) }

// flags are those that are shown, by name.
func (c Command) flags() []*kong.Flag {
	shown := slices.DeleteFunc(slices.Clone(c.Node.Flags), func(f *kong.Flag) bool { return f.Hidden })
	slices.SortFunc(shown, func(a, b *kong.Flag) int { return cmp.Compare(a.Name, b.Name) })
	return shown
}

// A kind says what a value is: files, dirs, mounts, none, one of the kinds
// that "moss __complete" knows, or "=word word".
const (
	kindNone  = "none"
	kindFiles = "files"
	kindDirs  = "dirs"
	// kindMounts are volumes and files.
	kindMounts = "mounts"
)

// flagKind is the kind of a flag's value.
func (c Command) flagKind(f *kong.Flag) string {
	if words := c.Words[f.Name]; len(words) > 0 {
		return "=" + strings.Join(words, " ")
	}
	switch f.PlaceHolder {
	case "FILE", "PATH", "HOST[:CONTAINER][:rwm]":
		return kindFiles
	case "DIR":
		return kindDirs
	case "[SOURCE:]TARGET[:OPTIONS]":
		return kindMounts
	case "NETWORK":
		return "networks"
	case "IMAGE":
		return "images"
	case "CONTAINER[:ro|rw]":
		return "containers"
	}
	return kindNone
}

// argumentKind is the kind of the command's arguments. After the first of some
// commands comes a command line of the container's, about which moss knows nothing.
func (c Command) argumentKind() (kind string, onlyFirst bool) {
	switch c.Name {
	case "login", "logout":
		return "registries", true
	case "unit print", "unit rm", "unit logs", "unit status", "quadlet print":
		return "units", false
	case "unit check", "unit install", "unit apply":
		return kindFiles, false
	case "secret create":
		return kindNone, false
	case "container runlabel":
		return kindNone, true
	case "run", "create":
		return "images", true
	case "exec":
		return "running", true
	case "top", "attach", "rename", "port":
		return "running", true
	case "stop", "kill", "pause":
		return "running", false
	case "start":
		return "stopped", false
	case "unpause":
		return "paused", false
	case "completion":
		return "=bash zsh fish", true
	case "images":
		return "images", true
	case "volume create", "artifact pull", "artifact push", "artifact ls", "artifact inspect", "artifact rm":
		return kindNone, false
	case "artifact add", "artifact extract":
		return kindFiles, false
	case "import", "unshare":
		return kindFiles, false
	}
	first, _, _ := strings.Cut(strings.Trim(c.Usage, "["), " ")
	switch strings.Trim(first, "[].") {
	case "CONTAINER", "NAME":
		return "containers", false
	case "IMAGE", "LIST", "HOST::]IMAGE":
		return "images", false
	case "VOLUME":
		return "volumes", false
	case "NETWORK":
		return "networks", false
	case "SECRET":
		return "secrets", false
	case "FILE":
		return kindFiles, false
	}
	return kindNone, false
}

// entries are all names that can stand on the command line, sorted, each with
// its command.
func entries(tree []Command) []entry {
	var out []entry
	for _, c := range tree {
		for _, name := range c.names() {
			out = append(out, entry{name, c})
		}
	}
	slices.SortFunc(out, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return out
}

type entry struct {
	name string
	Command
}

// first are the words that can follow "moss", with their help.
func firstWords(tree []Command) []word {
	var out []word
	groups := map[string]bool{}
	for _, e := range entries(tree) {
		group, _, isSub := strings.Cut(e.name, " ")
		switch {
		case !isSub:
			out = append(out, word{e.name, e.Help})
		case !groups[group]:
			groups[group] = true
			out = append(out, word{group, "Commands of " + group + "s"})
		}
	}
	slices.SortStableFunc(out, func(a, b word) int { return cmp.Compare(a.text, b.text) })
	return slices.CompactFunc(out, func(a, b word) bool { return a.text == b.text })
}

// secondWords are the words that can follow a group, by group.
func secondWords(tree []Command) map[string][]word {
	out := map[string][]word{}
	for _, e := range entries(tree) {
		// What follows the two words of another command is typed out.
		if group, sub, ok := strings.Cut(e.name, " "); ok && !strings.Contains(sub, " ") {
			out[group] = append(out[group], word{sub, e.Help})
		}
	}
	return out
}

type word struct{ text, help string }

func texts(words []word) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = w.text
	}
	return strings.Join(out, " ")
}

// quote makes a shell word of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// flagNames are the ways to write a flag.
func flagNames(f *kong.Flag) []string {
	names := []string{"--" + f.Name}
	if f.Short != 0 {
		names = append(names, fmt.Sprintf("-%c", f.Short))
	}
	for _, alias := range f.Aliases {
		names = append(names, "--"+alias)
	}
	return names
}
