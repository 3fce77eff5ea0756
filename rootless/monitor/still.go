package monitor

import "errors"

// holds are the clients for whom the container is frozen: while one of them is
// connected. A client that is killed holds nothing, whatever it was doing.
type holds struct {
	clients int
	froze   bool // by us: it was not paused already
}

// freeze freezes the container until the client's connection ends. It does not wait
// until every process has stopped: cgroup.events tells the client.
func (r *request) freeze() error {
	m := r.m
	switch {
	case m.ended || m.pidfd < 0:
		return errors.New("it does not run")
	case m.group == "":
		return errors.New("it has no cgroup of its own")
	}
	if m.still.clients == 0 && !m.group.frozen() {
		if err := m.group.write("cgroup.freeze", "1"); err != nil {
			return err
		}
		m.still.froze = true
	}
	m.still.clients++
	r.holds = true
	return nil
}

// thaw ends what freeze began, after the last client.
func (r *request) thaw() {
	m := r.m
	r.holds = false
	if m.still.clients--; m.still.clients > 0 || !m.still.froze {
		return
	}
	m.still.froze = false
	m.group.write("cgroup.freeze", "0")
}
