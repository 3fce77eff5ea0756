package userns

import (
	"fmt"
	"os"
	"path/filepath"

	"moss/record"

	"golang.org/x/sys/unix"
)

// Protocol is the version of <run>/pause; MOSS_ENTER_PROTOCOL in enter/enter.h
// is the same.
const Protocol = 1

// pauseRecord is the line in <run>/pause: protocol, PID, start time, and the
// signatures of /etc/subuid and /etc/subgid. Only moss under pause.lock writes
// it; the constructor reads it without the lock, hence the rename.
type pauseRecord struct {
	protocol int
	pid      int
	start    uint64
	sig      signature
}

// signature says which state of the two files a map was made from: mtime in
// nanoseconds, size and inode of each; a missing file is three zeros.
type signature [6]uint64

func currentSignature() signature {
	var sig signature
	for i, kind := range []string{"uid", "gid"} {
		var st unix.Stat_t
		if unix.Stat(subFile(kind), &st) == nil {
			sig[3*i] = uint64(st.Mtim.Nano())
			sig[3*i+1] = uint64(st.Size)
			sig[3*i+2] = st.Ino
		}
	}
	return sig
}

func pauseFile(dirs Dirs) string { return filepath.Join(dirs.Run, "pause") }

// readRecord reads <run>/pause; false if there is none that makes sense.
func readRecord(dirs Dirs) (pauseRecord, bool) {
	data, err := os.ReadFile(pauseFile(dirs))
	if err != nil {
		return pauseRecord{}, false
	}
	var r pauseRecord
	s := &r.sig
	n, _ := fmt.Sscan(string(data), &r.protocol, &r.pid, &r.start, &s[0], &s[1], &s[2], &s[3], &s[4], &s[5])
	// Other versions may sign otherwise; the first three fields stay.
	return r, n >= 3
}

func (r pauseRecord) write(dirs Dirs) error {
	s := r.sig
	line := fmt.Sprintln(r.protocol, r.pid, r.start, s[0], s[1], s[2], s[3], s[4], s[5])
	return writeFile(pauseFile(dirs), line)
}

// writeFile replaces a file in one step.
func writeFile(path, text string) error {
	return record.Replace(path, []byte(text), 0o600, false)
}
