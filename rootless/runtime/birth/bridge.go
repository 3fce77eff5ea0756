package birth

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/record"
)

// A user or time namespace can be joined by a process of one thread only, which
// a Go program never is; see setns(2). So the constructor of userns/enter joins
// it, in an execution of moss-runtime (the bridge) that then does what is left of
// the request from the inside, and ends. The process it makes is the caller's
// child (CLONE_PARENT) and inherits the bridge's end of the sync socket.

// bridged reports whether the request joins such a namespace.
func bridged(r Request) bool {
	for _, ns := range r.Join {
		if ns.Type == "user" || ns.Type == "time" {
			return true
		}
	}
	return false
}

// startBridged starts through one bridge for each such namespace, the user
// namespace first: it gives the power to join the others.
func startBridged(r Request, stdio [3]*os.File, extra []*os.File) (*Process, error) {
	inner := r
	inner.Join = nil
	inner.Cgroup = "" // the bridge is born there
	var now *Namespace
	for _, ns := range r.Join {
		if now == nil && ns.Type == "user" {
			now = &Namespace{ns.Type, ns.Path}
			continue
		}
		inner.Join = append(inner.Join, ns)
	}
	if now == nil {
		inner.Join = nil
		for _, ns := range r.Join {
			if now == nil && ns.Type == "time" {
				now = &Namespace{ns.Type, ns.Path}
				continue
			}
			inner.Join = append(inner.Join, ns)
		}
	}

	ns, err := os.Open(now.Path)
	if err != nil {
		return nil, fmt.Errorf("cannot join %s namespace: %w", now.Type, err)
	}
	defer ns.Close()
	request, err := record.Encode(inner)
	if err != nil {
		return nil, err
	}
	at := syncFD + 1 + len(extra)
	c := clone{
		runtime: r.Runtime, args: []string{"bridge", string(request), strconv.Itoa(len(extra)), strconv.Itoa(at + 1)},
		env:    []string{fmt.Sprintf("_MOSS_JOIN=%d:%x", at, namespaceFlags[now.Type])},
		cgroup: r.Cgroup, stdio: stdio, extra: extra, hidden: []*os.File{ns},
	}
	return c.startThrough("cannot join " + now.Type + " namespace \"" + now.Path + "\"")
}

// startThrough starts a process that makes the wanted one as our child, writes
// its PID to its last descriptor, and ends.
func (c *clone) startThrough(verb string) (*Process, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c.hidden = append(c.hidden, w)
	p, err := c.start()
	w.Close()
	if err != nil {
		return nil, err
	}

	var pid [4]byte
	_, err = io.ReadFull(r, pid[:])
	status, waitErr := p.Wait()
	if err != nil {
		// What the bridge had to say, if it came that far.
		_, _, said := p.receive()
		p.Close()
		if said != nil && said != errEnded {
			return nil, said
		}
		return nil, fmt.Errorf("%s: the joining process ended with status %d (%v)", verb, status.ExitStatus(), waitErr)
	}
	unix.Close(p.pidfd)
	made := &Process{PID: int(binary.NativeEndian.Uint32(pid[:])), sync: p.sync}
	if made.pidfd, err = unix.PidfdOpen(made.PID, 0); err != nil {
		made.pidfd = -1
	}
	return made, nil
}

// Bridge is `moss-runtime bridge REQUEST EXTRA FD`: the constructor has joined a
// namespace, the rest of the request is done here. It does not return errors: it
// sends them.
func Bridge(args []string) int {
	if err := bridge(args); err != nil {
		packet, _ := record.Encode(Message{Error: err.Error(), Code: 125})
		unix.Sendto(syncFD, packet, unix.MSG_NOSIGNAL, nil)
		return 1
	}
	return 0
}

func bridge(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("cannot bridge: three arguments wanted")
	}
	var r Request
	if err := record.Decode([]byte(args[0]), &r); err != nil {
		return fmt.Errorf("cannot bridge: %w", err)
	}
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("cannot bridge: %w", err)
	}
	fd, err := strconv.Atoi(args[2])
	if err != nil {
		return fmt.Errorf("cannot bridge: %w", err)
	}
	var extra []*os.File
	for i := range count {
		extra = append(extra, os.NewFile(uintptr(syncFD+1+i), "extra"))
	}
	stdio := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	if bridged(r) {
		return fmt.Errorf("cannot join both a user and a time namespace by path")
	}
	r.handOn = true
	p, err := Start(r, stdio, extra)
	if err != nil {
		return err
	}
	var pid [4]byte
	binary.NativeEndian.PutUint32(pid[:], uint32(p.PID))
	_, err = syscall.Write(fd, pid[:])
	return err
}
