package rootless

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/runtime"
	"moss/storage/image"
)

// chooseAs turns --as into the user namespace in which that user of the container
// is the caller, and the user of the program unless another one was asked for.
func chooseAs(spec *container.Spec, img *image.Image) error {
	who, ok := strings.CutPrefix(spec.Namespaces.User, "as:")
	if !ok {
		return nil
	}
	user, p := who, &spec.Process
	switch who {
	case "me":
		spec.Namespaces.User = "keep-id"
		return nil
	case "root":
		user = "0"
	case "image":
		user = img.Config.User
	}
	if p.User == "" {
		p.User = user // by name, if the image has it so: with its groups
	}
	uid, gid, _, err := accountsOf(spec, img).identify(user, nil)
	if err != nil {
		return fmt.Errorf("cannot use --as %q: %w", who, err)
	}
	if spec.Namespaces.User = "host"; uid != 0 || gid != 0 {
		spec.Namespaces.User = fmt.Sprintf("keep-id:uid=%d,gid=%d", uid, gid)
	}
	return nil
}

// accountFiles reads /etc/passwd and /etc/group of what a container starts from.
type accountFiles struct{ layers []string }

func accountsOf(spec *container.Spec, img *image.Image) accountFiles {
	if spec.Rootfs.Path != "" {
		return accountFiles{[]string{spec.Rootfs.Path}}
	}
	return accountFiles{img.Lower}
}

func (a accountFiles) identify(user string, groups []string) (uid, gid int, more []int, err error) {
	passwd, err := a.read("etc/passwd")
	if err != nil {
		return 0, 0, nil, err
	}
	group, err := a.read("etc/group")
	if err != nil {
		return 0, 0, nil, err
	}
	return runtime.Identify(passwd, group, user, groups)
}

// read looks for a file in the layers, uppermost first, without mounting them; a
// missing file is empty.
func (a accountFiles) read(name string) ([]byte, error) {
	for _, dir := range a.layers {
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY, Resolve: unix.RESOLVE_IN_ROOT}
		fd, err := unix.Openat2(root, name, &how)
		unix.Close(root)
		switch {
		case err == nil:
			f := os.NewFile(uintptr(fd), name)
			defer f.Close()
			if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
				return nil, err
			}
			return io.ReadAll(io.LimitReader(f, 16<<20))
		case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
			return nil, nil // a whiteout: the layers below do not count; see mknod(2)
		case !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return nil, &os.PathError{Op: "read", Path: "/" + name, Err: err}
		}
		if opaque(filepath.Join(dir, filepath.Dir(name))) {
			return nil, nil
		}
	}
	return nil, nil
}

// opaque says whether a layer's directory hides those below it.
func opaque(dir string) bool {
	var value [2]byte
	n, err := unix.Lgetxattr(dir, "user.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
