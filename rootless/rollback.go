package rootless

import (
	"errors"
	"slices"
)

// rollback remembers how to undo the stages that have already succeeded.
type rollback []func() error

func (r *rollback) add(undo func() error) { *r = append(*r, undo) }

// onError undoes every stage, last first, if *err is set. The first error
// stays first; errors met while undoing are joined to it. It is made to be
// deferred before the first stage, hence the pointer receiver.
func (r *rollback) onError(err *error) {
	if *err == nil {
		return
	}
	for _, undo := range slices.Backward(*r) {
		*err = errors.Join(*err, undo())
	}
}
