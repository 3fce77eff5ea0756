package rootless

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
type accountFiles struct{ layers }

func accountsOf(spec *container.Spec, img *image.Image) accountFiles {
	return accountFiles{layersOf(spec, img)}
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

// read reads a file of the layers; a missing file, or what is none, is empty.
func (a accountFiles) read(name string) ([]byte, error) {
	f, err := a.open(name)
	if f == nil || err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	// A descriptor of O_PATH can be opened anew; see open(2).
	again, err := os.Open(f.Name())
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: "/" + name, Err: errors.Unwrap(err)}
	}
	defer again.Close()
	return io.ReadAll(io.LimitReader(again, 16<<20))
}
