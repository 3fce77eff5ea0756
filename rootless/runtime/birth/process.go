package birth

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/record"
)

// Process is a process that moss-runtime turns into the user's program.
//
// The conversation over the sync socket (SOCK_SEQPACKET, the child's descriptor 3,
// closed by execve):
//
//	caller                     moss-runtime init
//	'd'              ──▶                            only with Request.Later: read the document
//	                 ◀──       {"Stage":"map"}      only with newuidmap: maps are wanted
//	'm'              ──▶
//	                 ◀──       {"Stage":"hooks"}    only with runtime hooks: namespaces
//	'h'              ──▶                            and mounts are made, before pivot_root
//	                 ◀──       {"Stage":"open"|"overlay",…}   only in a new user namespace:
//	descriptor       ──▶                            a mount that only the caller can make
//	                 ◀──       {"Stage":"idmap",…} + mount    its owners are to be mapped
//	'i'              ──▶
//	                 ◀──       {"Stage":"ready"} + pty master   or {"Error","Code"}
//	'g'              ──▶                            Go
//	                 ◀──       {"Stage":"listener"} + seccomp notify descriptor
//	                 ◀──       end of file: execve has happened
//	                           or {"Error","Code"}: it could not
type Process struct {
	PID int // as the caller sees it

	// Hooks is called by Ready, when the document has hooks of the caller's
	// (createRuntime, prestart), at their moment.
	Hooks func() error
	// Listener is called by Go with the seccomp notify descriptor, when the
	// profile asks for one. It closes it.
	Listener func(*os.File) error

	pidfd  int
	sync   int
	reaped bool
	status syscall.WaitStatus
}

// Waiting is a process that an earlier caller has made ready, by the socket at
// which it waits for its Go (runtime.Document.StartFD). It belongs to the Process.
func Waiting(pid, socket int) *Process { return &Process{PID: pid, sync: socket, pidfd: -1} }

// InitError is what kept the program from running, told by the init stage. Code
// is moss's exit code: 125, 126 (cannot be run) or 127 (not found).
type InitError struct {
	Message string
	Code    int
}

func (e *InitError) Error() string { return e.Message }

// Message is one packet from the init stage.
type Message struct {
	Stage string `json:",omitempty"`
	Error string `json:",omitempty"`
	Code  int    `json:",omitempty"`

	Path      string   `json:",omitempty"` // open
	Within    string   `json:",omitempty"` // open
	NoLinks   bool     `json:",omitempty"` // open
	Recursive bool     `json:",omitempty"` // open, idmap
	Overlay   *Overlay `json:",omitempty"` // overlay
	UIDMap    []IDMap  `json:",omitempty"` // idmap
	GIDMap    []IDMap  `json:",omitempty"`
}

// Proceed tells a process of a Request with Later that its document is there.
func (p *Process) Proceed() error { return p.send('d') }

// Ready waits until everything but the execution is done, and returns the master
// of the pseudoterminal if the document asked for one.
func (p *Process) Ready() (console *os.File, err error) {
	for {
		m, file, err := p.receive()
		if err != nil {
			return nil, err
		}
		switch m.Stage {
		case "hooks":
			if p.Hooks != nil {
				if err := p.Hooks(); err != nil {
					return nil, err
				}
			}
			if err := p.send('h'); err != nil {
				return nil, err
			}
		case "open", "overlay":
			if err := p.lend(m); err != nil {
				return nil, err
			}
		case "idmap":
			if err := p.idmap(m, file); err != nil {
				return nil, err
			}
		case "ready":
			return file, nil
		default:
			return nil, fmt.Errorf("cannot start process: unexpected message %q from its init stage", m.Stage)
		}
	}
}

// Go lets the process execute the program, and returns when it has.
func (p *Process) Go() error {
	if err := p.send('g'); err != nil {
		return err
	}
	for {
		m, file, err := p.receive()
		if err == errEnded {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Stage != "listener" || file == nil {
			return fmt.Errorf("cannot start process: unexpected message %q from its init stage", m.Stage)
		}
		if p.Listener == nil {
			file.Close()
			return fmt.Errorf("cannot start process: its seccomp profile wants a listener, and there is none")
		}
		if err := p.Listener(file); err != nil {
			return err
		}
	}
}

// Wait reaps the process.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	for !p.reaped {
		_, err := syscall.Wait4(p.PID, &p.status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("cannot wait for process %d: %w", p.PID, err)
		}
		p.reaped = true
	}
	return p.status, nil
}

// PidFD is the process's pidfd. It belongs to the Process; -1 when the kernel gave none.
func (p *Process) PidFD() int { return p.pidfd }

// Kill kills the process; Wait reaps it.
func (p *Process) Kill() error { return p.Signal(syscall.SIGKILL) }

// Signal sends a signal to the process, never to another one of the same number.
func (p *Process) Signal(s syscall.Signal) error {
	if p.pidfd < 0 {
		return syscall.Kill(p.PID, s)
	}
	return unix.PidfdSendSignal(p.pidfd, s, nil, 0)
}

// Close closes the sync socket and the pidfd. The process lives on; if it has not
// executed its program yet, it ends.
func (p *Process) Close() {
	if p.sync >= 0 {
		unix.Close(p.sync)
		p.sync = -1
	}
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
		p.pidfd = -1
	}
}

// errEnded says that the other end of the sync socket is closed.
var errEnded = &InitError{Message: "the init stage ended before the program could run", Code: 125}

// receive reads one message; an error message becomes an *InitError.
func (p *Process) receive() (m Message, file *os.File, err error) {
	var data [16 << 10]byte
	var oob [64]byte
	n, oobn := 0, 0
	for {
		n, oobn, _, _, err = unix.Recvmsg(p.sync, data[:], oob[:], unix.MSG_CMSG_CLOEXEC)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.ECONNRESET || err == nil && n == 0 {
		return m, nil, errEnded
	}
	if err != nil {
		return m, nil, fmt.Errorf("cannot read from init stage: %w", err)
	}
	if oobn > 0 {
		if file, err = passedFile(oob[:oobn]); err != nil {
			return m, nil, err
		}
	}
	if err := record.Decode(data[:n], &m); err != nil {
		return m, nil, fmt.Errorf("cannot read message of init stage: %w", err)
	}
	if m.Error != "" {
		return m, nil, &InitError{Message: m.Error, Code: m.Code}
	}
	return m, file, nil
}

// send writes one byte.
func (p *Process) send(b byte) error {
	for {
		err := unix.Sendto(p.sync, []byte{b}, unix.MSG_NOSIGNAL, nil)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
			continue
		case unix.EPIPE, unix.ECONNRESET:
			// What it had to say is still in the socket.
			if _, _, said := p.receive(); said != nil {
				return said
			}
			return errEnded
		}
		return fmt.Errorf("cannot write to init stage: %w", err)
	}
}

// passedFile takes the one descriptor out of a control message.
func passedFile(oob []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) == 0 {
		return nil, fmt.Errorf("cannot read control message of init stage: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("cannot read control message of init stage: %d descriptors: %w", len(fds), err)
	}
	return os.NewFile(uintptr(fds[0]), "passed"), nil
}
