package monitor

import (
	"time"

	"moss/storage/volume/mounted"
)

// The start conversation, and streams, over one SOCK_SEQPACKET socket (the
// monitor's descriptor 3). Every packet begins with its kind.
//
//	moss                                       monitor (argv[1]: path of monitor.json)
//	Configure JSON       ──▶                          only to one that was started ahead
//	Prepared JSON        ──▶                          only to a monitor that was started
//	                                                  early: what was missing; monitor.json and
//	                                                  init's document are whole now
//	                     ◀──  Created JSON{pid}       clone, init ready, network connected
//	                          or Failed JSON{message, code}
//	Resize (maybe)       ──▶                          the terminal's first size
//	Start                ──▶                          init executes the program
//	or Hold              ──▶                          nothing yet: see ControlRequest
//	                     ◀──  Started  or Failed
//	Stdin, StdinEOF, Resize ──▶
//	                     ◀──  Stdout, Stderr
//	(moss may close and leave at any time after Started)
//	                     ◀──  Exited JSON{Exit}       after clean-up, as the last packet
//
// The attach socket <RunDir>/attach.sock (SOCK_SEQPACKET, listening) speaks the
// same packets from Stdin on; its first packet to the client is Hello JSON{tty}.
// A client of the attach socket that wants only the exit sends WaitOnly first
// and gets no streams. Exited is the last packet to every client, also when the
// container is going to be started again (Exit.Restarting). The control socket
// <RunDir>/ctl.sock (SOCK_SEQPACKET too) takes one packet, a JSON ControlRequest,
// a connection and answers with one JSON ControlReply.
const (
	Configure = 'B'
	Prepared  = 'P'
	Created   = 'C'
	Failed    = 'F'
	Start     = 'S'
	Hold      = 'h' // in place of Start: the program waits for the control request "start"
	Started   = 'R'
	Stdin     = '0'
	Stdout    = '1'
	Stderr    = '2'
	StdinEOF  = 'E'
	Resize    = 'W' // JSON{rows, cols}
	Hello     = 'H'
	Lost      = 'L' // JSON{bytes}: output that was not waited for
	WaitOnly  = 'w'
	Exited    = 'X'
)

// MaxData is the largest payload of a stream packet in bytes.
const MaxData = 32 * 1024

// ConfigureMessage is the payload of Configure: the arguments that the monitor was
// not given, and the configuration as far as it is known.
type ConfigureMessage struct {
	Path   string
	Config Config
}

// PreparedMessage is the payload of Prepared: what an early configuration lacks.
type PreparedMessage struct {
	HostsFile  string          `json:",omitempty"`
	HostsText  string          `json:",omitempty"`
	HostNames  string          `json:",omitempty"`
	ResolvFile string          `json:",omitempty"`
	ResolvText string          `json:",omitempty"`
	Unmount    []string        `json:",omitempty"`
	Volumes    []string        `json:",omitempty"`
	Leases     []mounted.Lease `json:",omitempty"`
	Scratch    []Scratch       `json:",omitempty"`
}

// MaxConfiguration is the largest payload of these two in bytes.
const MaxConfiguration = 128 << 10

// CreatedMessage is the payload of Created.
type CreatedMessage struct{ PID int }

// FailedMessage is the payload of Failed: Code is moss's exit code (125 to 127).
type FailedMessage struct {
	Message string
	Code    int
}

// ResizeMessage is the payload of Resize.
type ResizeMessage struct{ Rows, Cols uint16 }

// LostMessage is the payload of Lost.
type LostMessage struct{ Bytes int64 }

// HelloMessage is the payload of Hello.
type HelloMessage struct{ TTY bool }

// Exit is how the container ended: the payload of Exited, and the file
// <RunDir>/exit.json. Code is 128+n for signal n.
type Exit struct {
	Code       int
	Signal     int  `json:",omitempty"`
	OOMKilled  bool `json:",omitempty"`
	At         time.Time
	Restarting bool   `json:",omitempty"`
	Error      string `json:",omitempty"`
}

// ControlRequest is the packet on the control socket. Op is "stop" or "kill" (a stop was
// asked for: do not restart; the caller sends the signals itself), "resize"
// (Rows, Cols), "start" (the program of one that was held), "reopen-log", "reload" (the configuration has changed), "health"
// (check it now; the answer comes when that is done), "exec" and "keep" (see
// execution), "freeze" (until the connection ends), "ping".
type ControlRequest struct {
	Op         string
	Rows, Cols uint16 `json:",omitempty"`
	Session    string `json:",omitempty"`
	Runtime    string `json:",omitempty"`
	PID        int    `json:",omitempty"`
	Preserve   []int  `json:",omitempty"` // the numbers of what comes after the socket
}

// ControlReply answers a ControlRequest; Error is "" when it was done.
type ControlReply struct {
	Error  string
	Code   int    `json:",omitempty"` // of start: moss's exit code for the error
	Health string `json:",omitempty"` // of health: what it is after the check
	Failed bool   `json:",omitempty"` // of health: this check
	PID    int    `json:",omitempty"` // of exec: the process
}
