package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"moss/userns/slack"

	"golang.org/x/sys/unix"
)

// UnshareCmd is "moss unshare".
type UnshareCmd struct {
	Globals
	Args []string `arg:"" optional:"" passthrough:"partial" name:"command" help:"The program and its arguments; $SHELL when none is given."`
}

// Run becomes the program: its exit code and its signals are its own.
func (cmd *UnshareCmd) Run(ctx context.Context, c *call) error {
	args := withoutDashes(cmd.Args)
	if len(args) == 0 {
		args = []string{or(os.Getenv("SHELL"), "/bin/sh")}
	}
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = slack.Exactly(func() error { return unix.Exec(path, args, os.Environ()) })
	}
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	wrapped := fmt.Errorf("cannot run %q: %w", args[0], err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &exitError{code: exitNotFound, err: wrapped}
	}
	return &exitError{code: exitNotExec, err: wrapped}
}
