package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
)

// drainLimit bounds the wait for the end of the streams after the container's
// process has ended: somebody outside the container may hold them open.
const drainLimit = time.Second

// maxPieces bounds what is read at once: who holds a stream may go on writing.
const maxPieces = 256

// died takes note of the container's end, and begins to read what is left.
func (m *monitor) died(status unix.WaitStatus) {
	m.ended, m.status = true, status
	m.loop.close(m.pidfd)
	m.pidfd, m.settleAt = -1, time.Time{}
	m.killAt, m.timeoutAt = time.Time{}, time.Time{}
	m.forgetHealth()
	m.adoption.next = time.Time{}
	unknown := !m.stopped && !m.session && !m.timedOut && exitCode(status) == 128+int(unix.SIGKILL)
	if !m.oom.look() && unknown {
		m.oom.guess()
	}
	m.oom.close()
	m.stdin.close()
	if m.peer >= 0 {
		unix.Close(m.peer)
		m.peer = -1
	}
	for _, o := range m.out {
		for n := 0; o != nil && n < maxPieces && m.read(o); n++ {
		}
	}
	if m.streaming() {
		m.group.kill() // nobody else of the container's may hold them
		m.drainAt = time.Now().Add(drainLimit)
		m.throttle()
	}
}

// streaming says whether the container's output has not come to its end.
func (m *monitor) streaming() bool {
	for _, o := range m.out {
		if o != nil && o.fd >= 0 {
			return true
		}
	}
	return false
}

// closeStreams gives up on the streams.
func (m *monitor) closeStreams() {
	m.drainAt = time.Time{}
	for _, o := range m.out {
		if o != nil {
			m.closeOutput(o)
		}
	}
	if m.stdin.fd >= 0 {
		m.loop.close(m.stdin.fd)
		m.stdin.fd, m.stdin.pending = -1, nil
	}
	if m.peer >= 0 {
		unix.Close(m.peer)
		m.peer = -1
	}
}

// endRun is what follows a run: another one, or the end.
func (m *monitor) endRun() {
	m.drainAt = time.Time{}
	exit := m.exit()
	var errs []error
	m.endExecutions()
	if m.external {
		errs = append(errs, m.endRuntime())
	}
	m.program = nil
	m.lease.release()
	m.hooks("stop") // as with start, what they say changes nothing
	m.noteEnd(exit)
	renew := m.renew
	m.renew, m.timedOut = false, false
	if !m.stopped && !m.session && (m.wakes || renew || m.policy.wants(exit.Code, m.restarts)) {
		m.waitToRestart(exit)
		return
	}
	m.finish(exit, errs)
}

// endRuntime lets another OCI runtime take back what it made.
func (m *monitor) endRuntime() error {
	if _, err := m.config(); err != nil {
		return err
	}
	return (&external{m: m, console: -1}).run([]string{"delete", "--force", m.cfg.ID}, [3]*os.File{}, nil)
}

// exitCode is what a shell would say.
func exitCode(status unix.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// exit says how the container ended.
func (m *monitor) exit() Exit {
	e := Exit{Code: exitCode(m.status), At: time.Now()}
	if m.status.Signaled() {
		e.Signal = int(m.status.Signal())
	}
	if m.timedOut { // podman's code
		e.Code, e.Error = container.ExitUnknown, "it was killed at the end of its timeout"
	}
	if e.Signal == int(unix.SIGKILL) && m.group.killedByOOMD() {
		e.Error = "it was killed by systemd-oomd: the machine was short of memory"
		m.oom.tell(m.oom.told + 1)
	}
	e.OOMKilled = m.oom.told > 0
	return e
}

// waitToRestart reports the end of this run and sets the time of the next.
func (m *monitor) waitToRestart(exit Exit) {
	m.leaveOwn()
	m.leaveCgroup() // the next run gets a new one: see prepare
	if m.wakes {
		m.pause = m.wakePause(exit.At.Sub(m.started))
	} else {
		m.pause = backOff(m.pause, exit.At.Sub(m.started))
	}
	m.last = exit
	exit.Restarting = true
	m.writeLast(exit)
	m.updateLive(func(live *container.Live) { live.Restarting, live.Network = true, nil })
	m.broadcast(Exited, exit)
	m.leave()
	m.restartAt = time.Now().Add(m.pause)
}

// restart starts the container again, or ends it, when a stop was asked for
// meanwhile or it cannot be started.
func (m *monitor) restart() {
	m.awaitOwn()
	m.restartAt = time.Time{}
	m.session = m.session || m.sessionOver()
	if m.stopped || m.session {
		m.finish(m.last, nil)
		return
	}
	if !m.wakes {
		m.restarts++
	}
	err := m.again()
	if err == nil && m.wakes {
		m.held = true
		m.keepHeld()
		return
	}
	if err == nil {
		m.started = time.Now()
		m.note(nil, event.Restart, event.Init, event.Start)
		m.running()
		m.notify.restarted(m.last, m.restarts)
		return
	}
	if m.goesOn() {
		m.notWoken(err)
		return
	}
	m.discardRun()
	exit := Exit{Code: failure(err).Code, At: time.Now(), Error: err.Error()}
	m.ended = true
	m.noteEnd(exit)
	m.finish(exit, nil)
}

// again makes and starts the process once more.
func (m *monitor) again() error {
	c, err := m.config()
	if err != nil {
		return err
	}
	if err := c.renew(); err != nil {
		return err
	}
	m.lease = nil
	if err := m.prepare(func() error { return nil }); err != nil {
		return err
	}
	if m.wakes {
		return nil
	}
	if err := m.program.start(); err != nil {
		return err
	}
	m.hooks("start")
	return nil
}

// finish undoes everything, and tells it to the clients when nothing is left for
// them to notice: the name is free, the ports are closed, the record is written.
// The layer is deleted after that.
func (m *monitor) finish(exit Exit, errs []error) {
	m.ended, m.finished = true, true
	// What a service manager sees of the container, whose process we are to it. It is
	// to start again what has failed, and not what somebody has stopped.
	if !m.wanted && !m.session {
		m.code = exit.Code
	}
	m.leaveUnit()
	m.closeParked()
	m.settleAt = time.Time{}
	if err := m.leaveCgroup(); err != nil {
		errs = append(errs, err)
	}
	mounted := m.unmount()
	errs = append(errs, mounted...)
	m.log.close()
	var trash []string
	removed := false
	if c, err := m.config(); err != nil {
		errs = append(errs, err)
	} else if c.AutoRemove && len(mounted) == 0 { // never delete through a mount
		var more []error
		trash, more = c.discard()
		errs = append(errs, more...)
		removed = len(more) == 0
	}
	if exit.Error == "" {
		if err := errors.Join(errs...); err != nil {
			exit.Error = err.Error()
		}
	}
	if removed {
		m.noteRemoved()
	} else {
		m.note(nil, event.Cleanup)
		m.writeLast(exit)
		record.Write(filepath.Join(m.runDir, "exit.json"), exit, false)
		m.removeRunFiles()
	}

	// Who has connected in time is told too.
	for m.attach.accept() {
	}
	for m.ctl.accept() {
	}
	m.broadcast(Exited, exit)
	m.leave()
	m.loop.close(m.attach.fd)
	m.loop.close(m.ctl.fd)
	for _, path := range trash {
		record.RemoveTree(path) // what it cannot remove is removed by the next moss
	}
}

// leave closes the clients that have read everything; the others when they have.
func (m *monitor) leave() {
	for _, c := range m.clients {
		c.last = true
		if len(c.queue) == 0 {
			c.drop()
		}
	}
	m.sweepClients()
}

// writeLast writes last.json.
func (m *monitor) writeLast(exit Exit) {
	c, err := m.config()
	if err != nil {
		return // without its configuration there is no place to write it to
	}
	container.WriteLast(c.Dir, &container.Last{
		Boot: container.BootID(), Started: m.started, Finished: exit.At,
		ExitCode: exit.Code, OOMKilled: exit.OOMKilled, Restarts: m.restarts,
		Error: exit.Error, StoppedByUser: m.stopped, SessionEnded: m.session,
	}, false)
}

// removeRunFiles removes what says that the container runs. live.json goes
// first: the sockets are looked for only while it is there.
func (m *monitor) removeRunFiles() {
	if m.runDir == "" {
		return
	}
	container.RemoveLive(m.runDir)
	for _, name := range []string{AttachSocket, ControlSocket, "monitor.pid", consoleSocket, runtimeLog, runtimePID} {
		unix.Unlink(filepath.Join(m.runDir, name))
	}
}

// unmount undoes the mounts that were made for the container, and forgets what was
// written over them.
func (m *monitor) unmount() (errs []error) {
	c, err := m.config()
	if err != nil {
		return nil
	}
	for i := len(c.Unmount) - 1; i >= 0; i-- {
		err := unix.Unmount(c.Unmount[i], unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			err = unix.Unmount(c.Unmount[i], unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil && err != unix.EINVAL && err != unix.ENOENT { // it is not mounted
			errs = append(errs, fmt.Errorf("cannot unmount %q: %w", c.Unmount[i], err))
		}
	}
	return append(errs, c.release()...)
}

// discard makes the container disappear: its directory and its anonymous volumes
// are renamed away, its name is free. What is returned is still to be deleted.
func (c *Config) discard() (trash []string, errs []error) {
	if err := os.MkdirAll(c.Trash, 0o700); err != nil {
		return nil, []error{fmt.Errorf("cannot remove container %q: %w", c.Name, err)}
	}
	names := c.names()
	// Where 'moss mount' has mounted it; most have not been.
	point := filepath.Join(filepath.Dir(filepath.Dir(c.RunDir)), "mounts", filepath.Base(c.RunDir))
	if unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) == nil {
		unix.Rmdir(point)
	}
	for i, dir := range append([]string{c.Dir}, c.unused()...) {
		to := filepath.Join(c.Trash, c.ID)
		if i > 0 {
			to += "." + strconv.Itoa(i)
		}
		err := os.Rename(dir, to)
		switch {
		case err == nil:
			trash = append(trash, to)
		case errors.Is(err, unix.EXDEV): // a volume elsewhere
			err = record.RemoveTree(dir)
		case errors.Is(err, fs.ErrNotExist): // somebody has removed it
			err = nil
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot remove %q: %w", dir, err))
		}
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot release name %q: %w", filepath.Base(name), err))
		}
	}
	// Nobody lists what begins with a dot; see Engine.sweep.
	gone := filepath.Join(filepath.Dir(c.RunDir), "."+filepath.Base(c.RunDir))
	if err := os.Rename(c.RunDir, gone); err == nil {
		trash = append(trash, gone)
	} else if !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("cannot remove %q: %w", c.RunDir, err))
	}
	return trash, errs
}

// unused are its anonymous volumes that no other container mounts (--volumes-from).
func (c *Config) unused() []string {
	if len(c.Volumes) == 0 {
		return nil
	}
	var out []string
	specs, _ := filepath.Glob(filepath.Join(filepath.Dir(c.Dir), "*", container.SpecFile))
	for _, dir := range c.Volumes {
		if !slices.ContainsFunc(specs, func(spec string) bool {
			data, _ := record.ReadFile(spec)
			return filepath.Dir(spec) != c.Dir && bytes.Contains(data, []byte(filepath.Base(dir)))
		}) {
			out = append(out, dir)
		}
	}
	return out
}

// names are the reservation files that are the container's now: it may have been
// renamed since it was started.
func (c *Config) names() []string {
	var out []string
	for _, name := range c.Names {
		if c.owns(name) {
			out = append(out, name)
			continue
		}
		now, err := container.Load(c.Dir, c.RunDir)
		if err != nil {
			continue
		}
		if name = filepath.Join(filepath.Dir(name), now.Spec.Name); c.owns(name) {
			out = append(out, name)
		}
	}
	return out
}

// owns says whether a reservation file holds the container's ID.
func (c *Config) owns(name string) bool {
	id, err := os.ReadFile(name)
	return err == nil && strings.TrimSpace(string(id)) == c.ID
}
