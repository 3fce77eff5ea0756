package monitor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/userns/slack"
)

// hooks has moss-runtime run the container's OCI hooks of one moment, create, start
// or stop, in these namespaces. It lasts as long as they do: the hooks of a moment
// come before what follows it.
func (m *monitor) hooks(moment string) error {
	c, err := m.config()
	if err != nil || c.Hooks == "" {
		return err
	}
	if _, err := os.Stat(c.Hooks); err != nil {
		return nil // none that the container meets
	}
	memory, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot run hooks: %w", err)
	}
	defer unix.Close(memory)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot run hooks: %w", err)
	}
	defer null.Close()
	argv := []string{"moss-runtime", "hooks", moment, c.Hooks, strconv.Itoa(m.pid)}
	attr := &syscall.ProcAttr{Env: append(runtimeEnv(), "_MOSS_HOST=1"), Files: []uintptr{null.Fd(), uintptr(memory), uintptr(memory)}}
	var pid int
	err = slack.Exactly(func() (err error) {
		pid, err = syscall.ForkExec(c.Birth.Runtime, argv, attr)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot run hooks: %w", err)
	}
	var status syscall.WaitStatus
	if _, err := retry(func() (int, error) { return syscall.Wait4(pid, &status, 0, nil) }); err != nil {
		return fmt.Errorf("cannot wait for hooks: %w", err)
	}
	if status.ExitStatus() == 0 {
		return nil
	}
	var said [4096]byte
	n, _ := unix.Pread(memory, said[:], 0)
	return errors.New(strings.TrimSpace(string(said[:max(n, 0)])))
}
