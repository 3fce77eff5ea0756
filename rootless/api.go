package rootless

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"moss/rootless/container"
)

// TODO(contract): the signatures that the command line is written against.
// Each moves into the file of its verb with its body.

// Streams are the terminal or pipes that a container is attached to.
type Streams struct {
	In       *os.File  // nil: not attached
	Out, Err io.Writer // nil: not attached
	// Terminal is set when In is a terminal in raw mode: window changes are
	// passed on and DetachKeys looked for.
	Terminal   bool
	DetachKeys []byte // nil: none
	// SigProxy passes the signals that moss receives to the container.
	SigProxy bool
}

// ErrDetached says that the user typed the detach keys.
var ErrDetached = errors.New("detached")

// CreateOptions go beside the Spec.
type CreateOptions struct {
	Pull      string // always, missing, never, newer
	Replace   bool
	Quiet     bool
	TLSVerify *bool
	AuthFile  string
}

// Create resolves the image (pulling it by opts.Pull), completes spec and
// reserves ID and name. Nothing is left behind if it fails.
func (e *Engine) Create(ctx context.Context, spec *container.Spec, opts CreateOptions) (*container.Container, error) {
	panic("todo")
}

// Start starts a created or exited container. With streams it attaches before
// the program runs and returns when they are joined: call Session.Wait.
func (e *Engine) Start(ctx context.Context, c *container.Container, s *Streams) (*Session, error) {
	panic("todo")
}

// Session is one attachment to a running container.
type Session struct{}

// Wait copies the streams until the container has exited and been cleaned up,
// and returns its exit code; ErrDetached if the user detached.
func (s *Session) Wait(ctx context.Context) (int, error) { panic("todo") }

// Attach joins a running container.
func (e *Engine) Attach(ctx context.Context, c *container.Container, s *Streams) (*Session, error) {
	panic("todo")
}

// ExecOptions describe one more process.
type ExecOptions struct {
	Args                           []string
	Env                            []string
	Dir, User                      string
	TTY, Stdin, Detach, Privileged bool
	PreserveFDs                    int
	Streams                        *Streams
}

// Exec runs one more process in a running container and returns its exit code.
func (e *Engine) Exec(ctx context.Context, c *container.Container, o ExecOptions) (int, error) {
	panic("todo")
}

// Find returns the container of that ID, name or unique ID prefix: errdefs.ErrNotFound, or ErrInvalidArgument when ambiguous.
func (e *Engine) Find(nameOrID string) (*container.Container, error) { panic("todo") }

// All returns every container, newest first.
func (e *Engine) All() ([]*container.Container, error) { panic("todo") }

// Latest returns the newest container.
func (e *Engine) Latest() (*container.Container, error) { panic("todo") }

// Stop asks the program to end with its stop signal, and kills it after timeout (nil: the container's own).
func (e *Engine) Stop(ctx context.Context, c *container.Container, timeout *time.Duration) error {
	panic("todo")
}

// Kill sends a signal.
func (e *Engine) Kill(ctx context.Context, c *container.Container, signal int) error { panic("todo") }

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool // stop it first; also clear what a crash left
	Volumes bool // its anonymous volumes too
	Timeout *time.Duration
}

// Remove removes a container's record and layer.
func (e *Engine) Remove(ctx context.Context, c *container.Container, o RemoveOptions) error {
	panic("todo")
}

// Wait waits for a condition ("exited", "running", …; "" is exited) and returns the exit code.
func (e *Engine) Wait(ctx context.Context, c *container.Container, condition string, interval time.Duration) (int, error) {
	panic("todo")
}

// LogOptions of Logs.
type LogOptions struct {
	Follow, Timestamps, Names bool
	Since, Until              time.Time
	Tail                      int // -1: all
	Out, Err                  io.Writer
}

// Logs writes a container's log.
func (e *Engine) Logs(ctx context.Context, c *container.Container, o LogOptions) error { panic("todo") }

// Top returns the rows of the processes in a container, the header first.
func (e *Engine) Top(ctx context.Context, c *container.Container, descriptors []string) ([][]string, error) {
	panic("todo")
}

// Pause and Unpause freeze and thaw the container's cgroup.
func (e *Engine) Pause(ctx context.Context, c *container.Container) error   { panic("todo") }
func (e *Engine) Unpause(ctx context.Context, c *container.Container) error { panic("todo") }

// Image runs moss-image with a request; see storage/image.Request. stdio is inherited when nil.
func (e *Engine) ImageHelper(ctx context.Context, req any, out io.Writer) error { panic("todo") }
