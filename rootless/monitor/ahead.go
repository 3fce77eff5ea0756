package monitor

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// A monitor that stands by has time to make the first process of the container
// that will probably be wanted: one of the usual kind. What cannot be changed
// afterwards are its namespaces, its cgroup and its streams; everything else is in
// the document, which it does not read before it is told to.

// usualFlags are the namespaces of a container about which nothing was said.
const usualFlags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS |
	unix.CLONE_NEWCGROUP | unix.CLONE_NEWNET

// bearAhead makes that process. That it cannot is no error: prepare will say why.
func (m *monitor) bearAhead(document, cgroup string) {
	self, err := os.Executable()
	if err != nil {
		return
	}
	helper := func(name string) string { return filepath.Join(filepath.Dir(self), name) }
	// Not one that is there: somebody's, or one that has been used.
	if os.Mkdir(cgroup, 0o755) != nil {
		return
	}
	m.born = &native{request: birth.Request{
		Runtime: helper("moss-runtime"), Stage: helper("moss-stage"), Document: document,
		Flags: usualFlags, Cgroup: cgroup, Later: true,
	}}
	unix.Stat(cgroup, &m.bornIn)
	stdio, err := m.openPipes(false)
	if err == nil {
		_, err = m.born.create(stdio, nil)
		closeFiles(stdio)
	}
	if err != nil {
		m.dropBorn()
	}
}

// dropBorn takes it back, if there is one. Another moss may have started the
// container meanwhile, in a cgroup of the same name: that is never touched. Only
// the own process is killed, and only the own directory, and an empty one, removed.
func (m *monitor) dropBorn() {
	if m.born == nil {
		return
	}
	cgroup := m.born.request.Cgroup
	m.born.discard()
	m.born = nil
	m.closeStreams()
	var now unix.Stat_t
	if unix.Stat(cgroup, &now) == nil && now.Ino == m.bornIn.Ino && now.Dev == m.bornIn.Dev {
		unix.Rmdir(cgroup)
	}
}

// takeBorn says whether the process is the one that the configuration asks for;
// one that is not is taken back.
func (m *monitor) takeBorn() bool {
	if m.born == nil {
		return false
	}
	c := m.cfg
	want, have := c.Birth, m.born.request
	if c.Runtime == nil && !c.TTY && !c.Stdin && !c.Log.passthrough() &&
		want.Flags == have.Flags && want.Cgroup == have.Cgroup && want.Document == have.Document &&
		want.Runtime == have.Runtime && want.Stage == have.Stage &&
		len(want.Join)+len(want.UIDMap)+len(want.GIDMap)+want.PreserveFDs == 0 {
		return true
	}
	m.dropBorn()
	return false
}
