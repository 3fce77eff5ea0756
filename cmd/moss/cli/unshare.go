package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
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
	err := become(args[0], args)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &exitError{code: exitNotFound, err: err}
	}
	return &exitError{code: exitNotExec, err: err}
}
