package cli

import (
	"fmt"
	"strings"
)

// entry is one command of the table. The table, not kong, finds the command:
// only that one's grammar is then built.
type entry struct {
	Name    string // as in "volume create"
	Aliases []string
	Usage   string // what follows the name and [FLAGS] on the command line
	Help    string // one line
	Group   string
	New     func() command
	Host    bool // runs outside of the namespaces, without an Engine
	Streams bool // deals with signals itself
	Hidden  bool
	Text    string // further paragraphs
	Example string
}

const (
	groupContainers = "Containers"
	groupImages     = "Images"
	groupOthers     = "Volumes, networks and the rest"
)

// commands is every command of moss, in the order of the help. "container X" and
// "image X" are aliases, as with podman and Docker.
var commands = [...]entry{
	{Name: "run", Aliases: []string{"container run"}, Usage: "IMAGE [COMMAND [ARG...]]", Group: groupContainers, Streams: true,
		Help: "Create a container, start it and stay with it", New: func() command { return new(RunCmd) }, Text: textRun,
		Example: "moss run --rm -it debian\nmoss run -d --name web -p 8080:80 docker.io/library/nginx\nmoss run --rm -v .:/src -w /src golang:1.26 go test ./..."},
	{Name: "create", Aliases: []string{"container create"}, Usage: "IMAGE [COMMAND [ARG...]]", Group: groupContainers,
		Help: "Create a container without starting it", New: func() command { return new(CreateCmd) },
		Example: "moss create --name db -v data:/var/lib/postgresql docker.io/library/postgres\nmoss start db"},
	{Name: "start", Aliases: []string{"container start"}, Usage: "CONTAINER...", Group: groupContainers, Streams: true,
		Help: "Start containers", New: func() command { return new(StartCmd) }},
	{Name: "exec", Aliases: []string{"container exec"}, Usage: "CONTAINER COMMAND [ARG...]", Group: groupContainers, Streams: true,
		Help: "Run one more program in a running container", New: func() command { return new(ExecCmd) },
		Example: "moss exec -it web sh"},
	{Name: "ps", Aliases: []string{"container ls", "container list", "container ps"}, Group: groupContainers,
		Help: "List containers", New: func() command { return new(PsCmd) }, Text: textPs,
		Example: "moss ps --all\nmoss ps --filter status=exited --format '{{.Names}} {{.Status}}'"},
	{Name: "logs", Aliases: []string{"container logs"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Show what containers wrote", New: func() command { return new(LogsCmd) }},
	{Name: "stop", Aliases: []string{"container stop"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Stop containers", New: func() command { return new(StopCmd) }},
	{Name: "kill", Aliases: []string{"container kill"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Send a signal to containers", New: func() command { return new(KillCmd) }},
	{Name: "rm", Aliases: []string{"container rm"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Remove containers", New: func() command { return new(RmCmd) }},
	{Name: "wait", Aliases: []string{"container wait"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Wait for containers and print their exit codes", New: func() command { return new(WaitCmd) }},
	{Name: "pull", Aliases: []string{"image pull"}, Usage: "IMAGE...", Group: groupImages,
		Help: "Get images from a registry", New: func() command { return new(PullCmd) }},
	{Name: "images", Aliases: []string{"image ls", "image list", "image images"}, Usage: "[NAME]", Group: groupImages,
		Help: "List images", New: func() command { return new(ImagesCmd) }},
	{Name: "unshare", Usage: "[COMMAND [ARG...]]", Group: groupOthers, Streams: true,
		Help: "Run a program of the host in moss's user namespace", New: func() command { return new(UnshareCmd) },
		Text:    "Inside, the files of containers and volumes belong to root and can be looked at and removed.",
		Example: "moss unshare cat /proc/self/uid_map"},
	{Name: "version", Group: groupOthers, Host: true,
		Help: "Show the version", New: func() command { return new(VersionCmd) }},
}

const textRun = `Flags stand before the image; everything after it belongs to the container.

The exit code is that of the program in the container.`

const textPs = `Filters: id, name, label, status, exited, ancestor, before, since, volume, network, until.`

// valueGlobals are the global flags that take a value as the next word.
var valueGlobals = [...]string{"--root", "--runroot", "--log-level"}

// lookup finds the command that args address, and what is left of args for it:
// its arguments, after the global flags that stood before it. A nil entry is a
// line without a command.
func lookup(args []string) (e *entry, name string, rest []string, err error) {
	words, at := commandWords(args)
	if len(words) == 0 {
		return nil, "", args, nil
	}
	for n := len(words); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if e := find(name); e != nil {
			rest := append([]string{}, args[:at[0]]...)
			return e, name, append(rest, args[at[n-1]+1:]...), nil
		}
	}
	if isGroup(words[0]) {
		return nil, "", nil, groupError(words)
	}
	return nil, "", nil, unknownCommand(words[0])
}

// commandWords are the first word that is not a flag, and the one after it if
// that follows at once, with their indices.
func commandWords(args []string) (words []string, at []int) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case len(words) == 0 && strings.HasPrefix(arg, "-"):
			for _, flag := range valueGlobals {
				if arg == flag {
					i++
				}
			}
		case strings.HasPrefix(arg, "-"):
			return words, at
		default:
			words, at = append(words, arg), append(at, i)
			if len(words) == 2 {
				return words, at
			}
		}
	}
	return words, at
}

// find returns the entry of a name or an alias; nil if there is none.
func find(name string) *entry {
	for i := range commands {
		e := &commands[i]
		if e.Name == name {
			return e
		}
		for _, alias := range e.Aliases {
			if alias == name {
				return e
			}
		}
	}
	return nil
}

// eachName calls do with every name and alias that a user may see.
func eachName(do func(name string, e *entry)) {
	for i := range commands {
		e := &commands[i]
		if strings.HasPrefix(e.Name, "__") || e.Name == "man" {
			continue
		}
		do(e.Name, e)
		for _, alias := range e.Aliases {
			do(alias, e)
		}
	}
}

func isGroup(word string) bool {
	found := false
	eachName(func(name string, _ *entry) { found = found || strings.HasPrefix(name, word+" ") })
	return found
}

func groupError(words []string) error {
	var subs []string
	eachName(func(name string, _ *entry) {
		if sub, ok := strings.CutPrefix(name, words[0]+" "); ok {
			subs = append(subs, sub)
		}
	})
	list := strings.Join(subs, ", ")
	if len(words) == 1 {
		return usagef("%s needs a command: %s", words[0], list)
	}
	return &hintedError{fmt.Errorf("unknown command \"%s %s\"", words[0], words[1]), words[0] + " has the commands " + list}
}

// hintedError is an error with a line of advice.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

func unknownCommand(word string) error {
	best, distance := "", 3
	eachName(func(name string, _ *entry) {
		name, _, _ = strings.Cut(name, " ")
		if d := editDistance(word, name); d < distance {
			best, distance = name, d
		}
	})
	hint := "'moss help' lists the commands"
	if best != "" {
		hint = "did you mean 'moss " + best + "'?"
	}
	return &hintedError{fmt.Errorf("unknown command %q", word), hint}
}

// editDistance is Levenshtein's: how many letters to add, drop or change.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
