package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"moss/userns/slack"
)

// ImageScpCmd is "moss image scp".
type ImageScpCmd struct {
	Globals
	Quiet       bool   `short:"q" help:"Show no progress."`
	Source      string `arg:"" help:"An image: IMAGE, or HOST::IMAGE."`
	Destination string `arg:"" optional:"" help:"Where to copy it: HOST::, or this machine."`

	name     string
	from, to *sshHost // nil: this machine
}

// sshHost is what ssh is told to reach a machine.
type sshHost struct{ target, port string }

func (cmd *ImageScpCmd) prepare() (err error) {
	cmd.name = cmd.Source
	if host, name, ok := strings.Cut(cmd.Source, "::"); ok {
		cmd.name = name
		if cmd.from, err = readHost(host); err != nil {
			return err
		}
	}
	if cmd.Destination != "" {
		host, name, ok := strings.Cut(cmd.Destination, "::")
		switch {
		case !ok:
			return usagef("the destination %q is not HOST::", cmd.Destination)
		case name != "":
			return usagef("cannot name the copy %q: it keeps the image's name; 'moss tag' gives it another", name)
		}
		if cmd.to, err = readHost(host); err != nil {
			return err
		}
	}
	switch {
	case cmd.name == "":
		return usagef("%q names no image", cmd.Source)
	case cmd.from == nil && cmd.to == nil:
		return &hintedError{errors.New("cannot copy image " + strconv.Quote(cmd.name) + ": it is on this machine already, and other users' stores are theirs alone"),
			"name another machine, HOST::, or another user's account as ssh reaches it, USER@localhost::"}
	}
	return checkReferences([]string{cmd.name})
}

// readHost reads [USER@]NAME[:PORT].
func readHost(s string) (*sshHost, error) {
	host := strings.TrimPrefix(s, "ssh://")
	if strings.Contains(host, "/") {
		return nil, usagef("the host %q has a path: on the other side a program is run by ssh, and no socket is asked", s)
	}
	h := &sshHost{target: host}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		h.target, h.port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(h.port, 10, 16); err != nil || n == 0 {
			return nil, usagef("the host %q has port %q, which is no number", s, h.port)
		}
	}
	user, name, ok := strings.Cut(h.target, "@")
	if !ok {
		name, user = user, ""
	}
	if name = strings.Trim(name, "[]"); name == "" || ok && user == "" || strings.HasPrefix(h.target, "-") || strings.HasPrefix(name, "-") {
		return nil, usagef("the host %q is not [USER@]NAME[:PORT]", s)
	}
	h.target = name
	if ok {
		h.target = user + "@" + name
	}
	return h, nil
}

// Run joins a save on one side to a load on the other.
func (cmd *ImageScpCmd) Run(ctx context.Context, c *call) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	save, err := cmd.program(ctx, cmd.from, "save", cmd.name)
	if err != nil {
		return err
	}
	load, err := cmd.program(ctx, cmd.to, "load")
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	save.Stdin, save.Stdout, save.Stderr = os.Stdin, w, os.Stderr
	load.Stdin, load.Stdout, load.Stderr = r, os.Stdout, os.Stderr
	if cmd.from != nil && cmd.to != nil {
		save.Stdin = nil // one of them may ask for a password on the terminal
	}
	type outcome struct {
		what, where string
		err         error
	}
	ended := make(chan outcome, 2)
	for _, side := range []struct {
		cmd         *exec.Cmd
		what, where string
	}{{save, "read", cmd.from.where()}, {load, "stored", cmd.to.where()}} {
		err := slack.Exactly(side.cmd.Start)
		go func() { // ends with the program
			if err == nil {
				err = side.cmd.Wait()
			}
			ended <- outcome{side.what, side.where, err}
		}()
	}
	w.Close()
	r.Close()
	var failed error // the first: the other then fails for its sake
	for range 2 {
		if o := <-ended; o.err != nil && failed == nil {
			failed = fmt.Errorf("cannot copy image %q: it cannot be %s%s: %v", cmd.name, o.what, o.where, o.err)
		}
	}
	return failed
}

// where says on which machine something is.
func (h *sshHost) where() string {
	if h == nil {
		return " here"
	}
	return " on " + h.target
}

// program is save or load, of this machine or by ssh of another.
func (cmd *ImageScpCmd) program(ctx context.Context, h *sshHost, verb string, args ...string) (*exec.Cmd, error) {
	if cmd.Quiet {
		args = append([]string{"--quiet"}, args...)
	}
	args = append([]string{verb}, args...)
	if h == nil {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, self, args...), nil
	}
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		return nil, &hintedError{fmt.Errorf("cannot reach %s: %w", h.target, err), "image scp runs the program ssh, of the package openssh-client"}
	}
	line := []string{}
	if h.port != "" {
		line = append(line, "-p", h.port)
	}
	return exec.CommandContext(ctx, ssh, append(line, "--", h.target, remote(args))...), nil
}

// remote is what a shell on the other side runs: moss, or what there is in its place.
func remote(args []string) string {
	words := make([]string, len(args))
	for i, word := range args {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	line := strings.Join(words, " ")
	return "for p in moss podman docker; do if command -v $p >/dev/null; then exec $p " + line + "; fi; done; " +
		"echo 'neither moss nor podman nor docker is installed' >&2; exit 127"
}
