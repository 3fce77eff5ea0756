package birth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moss/record"

	"golang.org/x/sys/unix"
)

// ExecRequest describes one more process in a running container.
type ExecRequest struct {
	Runtime string // path of moss-runtime
	// Document is the path of the JSON of a runtime.ExecDocument. It and what it
	// names are read before the container's mount namespace is joined.
	Document string
	// File is the document itself, open.
	File *os.File `json:"-"`
	// Data is the document itself, in place of the file.
	Data []byte `json:",omitempty"`
	// PreserveFDs as in Request.
	PreserveFDs int `json:",omitempty"`
	// Sync is the child's end of a sync socket whose other end somebody else has, who
	// leads the conversation. nil: the Process has it.
	Sync *os.File `json:"-"`
	// Leave are the namespaces (CLONE_NEW* flags) of the container that are
	// not joined.
	Leave uintptr `json:",omitempty"`
}

// Exec clones `moss-runtime exec-init <document>` into the namespaces and the
// cgroup of a running container. PID and cgroup come from the document.
func Exec(r ExecRequest, stdio [3]*os.File, extra []*os.File) (*Process, error) {
	if len(extra) < r.PreserveFDs {
		return nil, fmt.Errorf("cannot execute in container: %d descriptors to preserve, %d given", r.PreserveFDs, len(extra))
	}
	doc, err := r.File, error(nil)
	if doc == nil {
		if doc, err = openDocument(r); err != nil {
			return nil, err
		}
		defer doc.Close()
	}
	var head struct {
		PID    int
		Cgroup string
	}
	data, err := io.ReadAll(doc)
	if err == nil {
		err = record.Decode(data, &head)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read document %q: %w", r.Document, err)
	}
	if _, err := doc.Seek(0, 0); err != nil {
		return nil, err
	}

	pidfd, err := unix.PidfdOpen(head.PID, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot find process %d of container: %w", head.PID, err)
	}
	target := os.NewFile(uintptr(pidfd), "pidfd")
	defer target.Close() // given twice: the constructor closes the one it has used
	flags := differing(head.PID) &^ r.Leave

	in := func(cgroup string) (*Process, error) {
		return execIn(head.PID, flags, clone{
			runtime: r.Runtime, cgroup: cgroup, stdio: stdio, extra: extra, preserve: r.PreserveFDs,
			hidden: []*os.File{target, target, doc}, sync: r.Sync,
		})
	}
	p, err := in(head.Cgroup)
	if errors.Is(err, unix.EBUSY) {
		// A program that has handed controllers down, as systemd does, has none but its
		// children's: "no internal processes", cgroup-v2.rst. So with its first process.
		if own := ownCgroup(head.PID, head.Cgroup); own != "" {
			return in(own)
		}
	}
	return p, err
}

// ownCgroup is the directory of the cgroup that a process has made for itself below that of
// its container; "" for none.
func ownCgroup(pid int, container string) string {
	data, err := record.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil || container == "" {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		path, v2 := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if _, below, ok := strings.Cut(path, "/"+filepath.Base(container)+"/"); v2 && ok {
			return filepath.Join(container, below)
		}
	}
	return ""
}

// execIn clones c, whose hidden descriptors are of a process, twice, and of the document, into
// namespaces of that process.
func execIn(pid int, flags uintptr, c clone) (*Process, error) {
	at := syncFD + 1 + len(c.extra)
	c.args = []string{"exec-init", strconv.Itoa(at + 2)}
	// The init stage reads its files before it joins the mount namespace itself.
	c.env = append(c.env, fmt.Sprintf("_MOSS_MOUNTS=%d:%x", at+1, flags&unix.CLONE_NEWNS))
	flags &^= unix.CLONE_NEWNS
	switch {
	case flags&unix.CLONE_NEWPID != 0:
		c.env = append(c.env, fmt.Sprintf("_MOSS_JOIN=%d:%x:fork:%d", at, flags, at+3))
		return c.startThrough(fmt.Sprintf("cannot join namespaces of process %d", pid))
	case flags != 0:
		c.env = append(c.env, fmt.Sprintf("_MOSS_JOIN=%d:%x", at, flags))
	}
	return c.start()
}

// openDocument opens the file, or one in memory with the data.
func openDocument(r ExecRequest) (*os.File, error) {
	if r.Data == nil {
		f, err := os.Open(r.Document)
		if err != nil {
			return nil, fmt.Errorf("cannot open document: %w", err)
		}
		return f, nil
	}
	return Document(r.Data)
}

// Document is a document in memory: an ExecRequest's File.
func Document(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("document", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make document: %w", err)
	}
	f := os.NewFile(uintptr(fd), "document")
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot make document: %w", err)
	}
	f.Seek(0, 0)
	return f, nil
}

// differing are the flags of the namespaces in which the process and the caller
// are not together: joining one's own user namespace is EINVAL; see setns(2).
func differing(pid int) uintptr {
	var flags uintptr
	for _, ns := range []struct {
		name string
		flag uintptr
	}{
		{"user", unix.CLONE_NEWUSER}, {"mnt", unix.CLONE_NEWNS}, {"pid", unix.CLONE_NEWPID},
		{"net", unix.CLONE_NEWNET}, {"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS},
		{"cgroup", unix.CLONE_NEWCGROUP}, {"time", unix.CLONE_NEWTIME},
	} {
		var own, its unix.Stat_t
		if unix.Stat("/proc/thread-self/ns/"+ns.name, &own) != nil ||
			unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/"+ns.name, &its) != nil {
			continue // a kernel without it, or a process that is gone: setns will tell
		}
		if own.Dev != its.Dev || own.Ino != its.Ino {
			flags |= ns.flag
		}
	}
	return flags
}
