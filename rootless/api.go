package rootless

import (
	"context"

	"moss/rootless/container"
)

// Top returns the rows of the processes in a container, the header first.
func (e *Engine) Top(ctx context.Context, c *container.Container, descriptors []string) ([][]string, error) {
	panic("todo")
}
