package rootless

import (
	"context"
	"io"
	"time"

	"moss/rootless/container"
)

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
