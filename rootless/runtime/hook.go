package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
	"moss/userns/slack"
)

// RunHooks runs the hooks of one kind in their order, each with the state as JSON
// on its standard input; the first that fails ends it.
func RunHooks(kind string, hooks []specs.Hook, state *specs.State) error {
	if len(hooks) == 0 {
		return nil
	}
	data, err := record.Encode(state)
	if err != nil {
		return err
	}
	for i := range hooks {
		if err := runHook(&hooks[i], data); err != nil {
			return fmt.Errorf("cannot run %s hook %q: %w", kind, hooks[i].Path, err)
		}
	}
	return nil
}

func runHook(h *specs.Hook, state []byte) error {
	ctx := context.Background()
	if h.Timeout != nil {
		if *h.Timeout <= 0 {
			return errors.New("its timeout is not positive")
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path)
	if len(h.Args) > 0 {
		cmd.Args = h.Args // with argv[0]; see OCI config.md, "POSIX-platform Hooks"
	}
	cmd.Env = append([]string{}, h.Env...) // nothing of the caller's
	cmd.Stdin = bytes.NewReader(state)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second // for a child of its that keeps the output open
	err := slack.Exactly(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it did not end within %d seconds", *h.Timeout)
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(output.Bytes()))
	}
	return nil
}

// createHooks runs the hooks before pivot_root: the caller's in the caller's
// namespaces, then createContainer here.
func (s *stage) createHooks() error {
	h := s.spec.Hooks
	if h == nil || s.doc.State == nil {
		return nil
	}
	//lint:ignore SA1019 the specification still has them, and wants them run
	if len(h.Prestart)+len(h.CreateRuntime) > 0 {
		if err := s.ask("hooks", 'h'); err != nil {
			return err
		}
	}
	return RunHooks("createContainer", h.CreateContainer, s.stateOf(specs.StateCreating))
}

// startHooks runs startContainer: inside the container, when it is started.
func (s *stage) startHooks() error {
	h := s.spec.Hooks
	if h == nil || s.doc.State == nil {
		return nil
	}
	return RunHooks("startContainer", h.StartContainer, s.stateOf(specs.StateCreated))
}

// stateOf is the state that hooks read, with this process's ID.
func (s *stage) stateOf(status specs.ContainerState) *specs.State {
	state := *s.doc.State
	state.Status = status
	if pid, err := s.pidOutside(); err == nil {
		state.Pid = pid
	}
	return &state
}
