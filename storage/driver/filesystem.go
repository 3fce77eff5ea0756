package driver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
)

// FileSystem is what the file system of a store can do, found out by trying.
type FileSystem struct {
	Name    string // as mount(8) has it: ext4, xfs, nfs4, fuse.sshfs; what statfs(2) says where that is not told
	XAttr   bool   // files have user.* attributes, which overlay keeps its marks in
	DType   bool   // directories tell the type of what is in them, without which overlay cannot hide a whiteout
	Reflink bool   // files share bytes until one is changed
	Owners  bool   // files can be given to the user's subordinate IDs
}

// look tries everything in dir, which is empty.
func look(dir string) (FileSystem, error) {
	f := FileSystem{Name: name(dir)}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		return f, err
	}
	f.XAttr = unix.Lsetxattr(file, "user.moss", []byte("x"), 0) == nil
	f.Reflink = reflink(file, filepath.Join(dir, "clone")) == nil
	if os.Mkdir(filepath.Join(dir, "dir"), 0o700) == nil {
		f.DType = typed(dir, "dir")
	}
	// Where one ID is mapped there is none to try; the store knows that case by itself.
	err := os.Lchown(file, 1, 1)
	var st unix.Stat_t
	f.Owners = errors.Is(err, unix.EINVAL) || err == nil && unix.Lstat(file, &st) == nil && st.Uid == 1 && st.Gid == 1
	return f, nil
}

func reflink(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	return unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
}

// typed says whether dir, when it is listed, tells that name is a directory. What os
// says does not tell: it looks at the file where the directory is silent.
func typed(dir, name string) bool {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	buffer := make([]byte, 8<<10)
	for {
		n, err := unix.Getdents(fd, buffer)
		if err != nil || n <= 0 {
			return false
		}
		for entries := buffer[:n]; len(entries) > 0; {
			var entry string
			var kind byte
			entry, kind, entries = record.NextEntry(entries)
			if entry == name {
				return kind == unix.DT_DIR
			}
		}
	}
}

// lacks says what overlay would need and the file system has not; "" if it has all.
func (f FileSystem) lacks() string {
	switch {
	case !f.XAttr:
		return f.Name + " keeps no user attributes (xattr)"
	case !f.DType:
		return f.Name + " does not tell the types of files in a directory (d_type)"
	case f.Name == "overlay":
		return "overlay on overlay"
	}
	return ""
}

// name finds the mount that dir is on; see proc_pid_mountinfo(5).
func name(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown"
	}
	fallback := fmt.Sprintf("%#x", uint32(st.Type))
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fallback
	}
	data, err := record.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fallback
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	found, longest := fallback, -1
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kinds := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kinds) == 0 {
			continue
		}
		point := unescape.Replace(fields[4])
		// Of two mounts on one place the later one is seen.
		if len(point) >= longest && (point == "/" || real == point || strings.HasPrefix(real, point+"/")) {
			found, longest = kinds[0], len(point)
		}
	}
	return found
}

// Place tells file systems apart, as far as one call can.
func Place(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return ""
	}
	return strconv.FormatUint(uint64(uint32(st.Type)), 16) + ":" +
		strconv.FormatUint(uint64(uint32(st.Fsid.Val[0])), 16) + ":" + strconv.FormatUint(uint64(uint32(st.Fsid.Val[1])), 16)
}
