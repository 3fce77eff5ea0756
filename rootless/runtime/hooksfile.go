package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
)

// HooksDocument are a container's hooks that run outside of it, and the state that
// they read.
type HooksDocument struct {
	Hooks *specs.Hooks
	State *specs.State
}

// Hooks is `moss-runtime hooks MOMENT DOCUMENT PID`: it runs, for the monitor, the
// hooks of a HooksDocument: on create prestart and createRuntime, on start poststart,
// on stop poststop. It returns the exit code, and has told why on standard error.
func Hooks(args []string) int {
	err := runHooks(args)
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func runHooks(args []string) error {
	if len(args) != 3 {
		return errors.New("cannot run hooks: want a moment, a document and a process ID")
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	var doc HooksDocument
	if err := record.Decode(data, &doc); err != nil {
		return err
	}
	if doc.Hooks == nil || doc.State == nil {
		return nil
	}
	if doc.State.Pid, err = strconv.Atoi(args[2]); err != nil {
		return err
	}
	switch args[0] {
	case "create":
		doc.State.Status = specs.StateCreating
		//lint:ignore SA1019 the specification still has them, and wants them run
		if err := RunHooks("prestart", doc.Hooks.Prestart, doc.State); err != nil {
			return err
		}
		return RunHooks("createRuntime", doc.Hooks.CreateRuntime, doc.State)
	case "start":
		doc.State.Status = specs.StateRunning
		return RunHooks("poststart", doc.Hooks.Poststart, doc.State)
	case "stop":
		doc.State.Status, doc.State.Pid = specs.StateStopped, 0
		return RunHooks("poststop", doc.Hooks.Poststop, doc.State)
	}
	return fmt.Errorf("cannot run hooks of %q", args[0])
}
