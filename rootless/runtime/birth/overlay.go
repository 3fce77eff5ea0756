package birth

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Overlay describes an overlay mount; see runtime.Overlay.
type Overlay struct {
	Lower               []string // uppermost first
	DataOnly            []string `json:",omitempty"` // below them; seen only through redirects
	Upper, Work         string
	Volatile, UserXattr bool
	Data                []string // more options
	// UIDMap and GIDMap shift the owners of the lower layers, where the kernel
	// lets their mounts have an ID map.
	UIDMap []IDMap `json:",omitempty"`
	GIDMap []IDMap `json:",omitempty"`
}

// Mount makes the overlay and returns it detached. On kernels without lowerdir+
// (before 6.8) it is made at target, and the descriptor opened there.
func (o *Overlay) Mount(target string) (fd int, attached bool, err error) {
	if len(o.Lower) == 0 {
		return -1, false, errors.New("cannot mount overlay: it has no lower layer")
	}
	fd, err = o.mountByParts()
	if err == nil {
		return fd, false, nil
	}
	modern := len(o.DataOnly)+len(o.UIDMap) > 0
	if modern || !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return -1, false, err
	}
	if classic := o.mountAt(target); classic != nil {
		return -1, false, errors.Join(classic, err)
	}
	fd, err = unix.Open(target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, true, err
}

// mountByParts gives each layer on its own: no limit of one page for all, and no
// quoting of colons and commas.
func (o *Overlay) mountByParts() (int, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("cannot mount overlay: %w", err)
	}
	defer unix.Close(fs)
	lower, done, err := o.lower()
	if err != nil {
		return -1, err
	}
	defer done()
	for i, dir := range append(lower, o.DataOnly...) {
		option := "lowerdir+"
		if i >= len(lower) {
			option = "datadir+"
		}
		if err := unix.FsconfigSetString(fs, option, dir); err != nil {
			return -1, overlayError(fs, "add layer \""+dir+"\"", err)
		}
	}
	// These are unescaped by the kernel, lowerdir+ is not; see fs/overlayfs/params.c.
	unescaped := strings.NewReplacer(`\`, `\\`)
	if o.Upper != "" {
		for _, pair := range [][2]string{{"upperdir", o.Upper}, {"workdir", o.Work}} {
			if err := unix.FsconfigSetString(fs, pair[0], unescaped.Replace(pair[1])); err != nil {
				return -1, overlayError(fs, "use "+pair[0]+" \""+pair[1]+"\"", err)
			}
		}
	}
	for _, option := range o.options() {
		name, value, hasValue := strings.Cut(option, "=")
		if hasValue {
			err = unix.FsconfigSetString(fs, name, value)
		} else {
			err = unix.FsconfigSetFlag(fs, name)
		}
		if err != nil {
			return -1, overlayError(fs, "use option "+option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, overlayError(fs, "be made", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, overlayError(fs, "be mounted", err)
	}
	return fd, nil
}

// lower are the paths of the lower layers: of mounts with the ID map, if there is
// one. done releases those; what is mounted keeps them.
func (o *Overlay) lower() (dirs []string, done func(), err error) {
	if len(o.UIDMap) == 0 {
		return slices.Clone(o.Lower), func() {}, nil
	}
	var fds []int
	done = func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	ns, err := namespaceWithMap(o.UIDMap, o.GIDMap)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot map IDs of layers: %w", err)
	}
	defer ns.Close()
	for _, dir := range o.Lower {
		fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err == nil {
			fds = append(fds, fd)
			err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())})
		}
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("cannot map IDs of layer %q: %w", dir, err)
		}
		dirs = append(dirs, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	return dirs, done, nil
}

func (o *Overlay) options() []string {
	var out []string
	if o.UserXattr {
		out = append(out, "userxattr")
	}
	if o.Volatile && o.Upper != "" {
		out = append(out, "volatile")
	}
	return append(out, o.Data...)
}

// overlayError adds what the kernel says about the failure; see fsopen(2).
func overlayError(fs int, what string, err error) error {
	var said []string
	var line [512]byte
	for {
		n, readErr := unix.Read(fs, line[:])
		if readErr != nil || n <= 2 {
			break
		}
		said = append(said, string(bytes.TrimSpace(line[2:n])))
	}
	if len(said) > 0 {
		return fmt.Errorf("overlay cannot %s: %w (%s)", what, err, strings.Join(said, "; "))
	}
	return fmt.Errorf("overlay cannot %s: %w", what, err)
}

// mountAt uses mount(2), from the layers' common parent: all options together
// must fit in one page.
func (o *Overlay) mountAt(target string) error {
	dirs := append([]string(nil), o.Lower...)
	parent := filepath.Dir(dirs[0])
	for _, dir := range dirs[1:] {
		for !strings.HasPrefix(dir, parent+"/") && parent != "/" {
			parent = filepath.Dir(parent)
		}
	}
	quote := strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`)
	for i, dir := range dirs {
		dirs[i] = quote.Replace(strings.TrimPrefix(strings.TrimPrefix(dir, parent), "/"))
	}
	options := []string{"lowerdir=" + strings.Join(dirs, ":")}
	if o.Upper != "" {
		options = append(options, "upperdir="+quote.Replace(o.Upper), "workdir="+quote.Replace(o.Work))
	}
	data := strings.Join(append(options, o.options()...), ",")
	if len(data) >= unix.Getpagesize() {
		return fmt.Errorf("cannot mount overlay: %d layers need %d bytes of options, and this kernel takes one page; it needs Linux 6.8", len(dirs), len(data))
	}

	var cwd int
	cwd, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(cwd)
	if err := unix.Chdir(parent); err != nil {
		return fmt.Errorf("cannot mount overlay: %w", err)
	}
	defer unix.Fchdir(cwd)
	if err := unix.Mount("overlay", target, "overlay", 0, data); err != nil {
		return fmt.Errorf("cannot mount overlay: %w", err)
	}
	return nil
}
