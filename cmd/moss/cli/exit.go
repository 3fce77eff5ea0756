package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless"
	"moss/rootless/runtime/birth"
)

// Exit codes. run, start --attach, attach and exec end with the code of the
// container's program.
const (
	exitFound    = 1   // rm, rmi, volume rm, network rm: one of them is not there; doctor: something needed fails
	exitInUse    = 2   // rm: a container runs; rmi, volume rm: a container uses it
	exitMoss     = 125 // moss failed
	exitNotExec  = 126 // the program cannot be run
	exitNotFound = 127 // the program is not there
	exitSignal   = 128 // plus the number of the signal that ended the program
)

// exitError ends moss with a code. There is nothing to print for it but err, if
// there is one.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// exitWith ends moss with the code of a container's program.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return &exitError{code: code}
}

// report tells the user what went wrong and returns the exit code.
func (c *call) report(err error) int {
	restoreTerminal()
	code := exitCode(err)
	for _, err := range flatten(err) {
		var exit *exitError
		var helper *rootless.HelperError
		switch {
		case errors.As(err, &exit) && exit.err == nil:
		case errors.As(err, &helper): // it has told the user itself
			slog.Debug("a helper failed", "error", err)
		case errors.Is(err, rootless.ErrDetached):
		default:
			fmt.Fprintf(c.Err, "moss: %s\n", withoutKind(err))
			for _, line := range hints(err) {
				fmt.Fprintf(c.Err, "hint: %s\n", line)
			}
		}
	}
	return code
}

// withoutKind is the error's message without the kind at its end, which the
// message has told before: "…: it is created, not running: failed precondition".
func withoutKind(err error) string {
	message := err.Error()
	for _, kind := range [...]error{
		errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrConflict, errdefs.ErrInvalidArgument,
		errdefs.ErrFailedPrecondition, errdefs.ErrUnavailable,
	} {
		if short, ok := strings.CutSuffix(message, ": "+kind.Error()); ok && strings.Contains(short, ": ") {
			return short
		}
	}
	if short, ok := strings.CutSuffix(message, context.Canceled.Error()); ok {
		return short + "interrupted"
	}
	return message
}

// flatten takes apart what errors.Join joined at the top.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var exit *exitError
	if errors.As(err, &exit) && err == error(exit) && exit.err != nil {
		return flatten(exit.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, flatten(e)...)
	}
	return out
}

// exitCode is the table of the man pages: EXIT STATUS.
func exitCode(err error) int {
	var exit *exitError
	var helper *rootless.HelperError
	var grammar *parseError // kong's own code within it is another
	var coded interface{ ExitCode() int }
	var start *birth.InitError
	switch {
	case err == nil, errors.Is(err, rootless.ErrDetached):
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &helper):
		return helper.Code
	case errors.As(err, &grammar):
		return exitMoss
	case errors.As(err, &coded):
		return coded.ExitCode()
	case errors.As(err, &start):
		return start.Code
	case errors.Is(err, context.Canceled): // interrupted
		return exitSignal + 2
	}
	return exitMoss
}

// notThere gives exit code 1 to errors that say that all there was to remove is
// not there, as podman rm does.
func notThere(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range flatten(err) {
		if !isNotFound(e) {
			return err
		}
	}
	return &exitError{code: exitFound, err: err}
}

// notRemovable gives rm's exit codes: 2 when one of the containers runs, 1 when all
// that is wrong is that some are not there.
func notRemovable(err error) error {
	if errors.Is(err, errdefs.ErrConflict) {
		return &exitError{code: exitInUse, err: err}
	}
	return notThere(err)
}
