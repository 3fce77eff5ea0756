package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/rootless/tree"
)

// externalMounts does here what the OCI configuration has no words for, and what
// moss's own init process would do: another OCI runtime then finds plain
// directories and files. The monitor unmounts them.
func (l *launch) externalMounts(ctx context.Context, doc *runtime.Document) error {
	if len(doc.Chown) > 0 {
		return fmt.Errorf("cannot mount %q: option U wants moss's own runtime: another does not tell who the user is: %w", doc.Chown[0], errdefs.ErrInvalidArgument)
	}
	for i := range doc.Spec.Mounts {
		m := &doc.Spec.Mounts[i]
		from, ok := doc.Sources[m.Destination]
		if !ok {
			continue
		}
		if err := l.externalSource(m, from, i); err != nil {
			return fmt.Errorf("cannot mount %q: %w", m.Destination, err)
		}
	}
	if err := l.externalSecrets(doc); err != nil {
		return err
	}
	if len(doc.CopyUp) == 0 {
		return nil
	}
	dir, err := os.OpenFile(doc.Spec.Root.Path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, c := range doc.CopyUp {
		if err := fillVolume(ctx, tree.Confined(dir), c); err != nil {
			return err
		}
	}
	return nil
}

// externalSource mounts one source in the run directory.
func (l *launch) externalSource(m *specs.Mount, from runtime.Source, i int) error {
	point := filepath.Join(l.c.RunDir, "mount"+strconv.Itoa(i))
	if from.Overlay != nil {
		if err := os.Mkdir(point, 0o700); err != nil {
			return err
		}
		if err := runtime.MountOverlay(from.Overlay, point); err != nil {
			return err
		}
		l.unmountLater([]string{point})
		if m.Source = point; from.Path == "" {
			return nil
		}
		from.Within, point = point, point+".part"
	}
	fd, err := birth.CloneTree(from.Within, from.Path, true, from.NoLinks)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = os.Mkdir(point, 0o700)
	} else {
		err = os.WriteFile(point, nil, 0o600)
	}
	if err == nil {
		err = unix.MoveMount(fd, "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return err
	}
	m.Source = point
	l.unmountLater([]string{point})
	return nil
}

// externalSecrets puts secrets into the run directory, which a reboot takes away.
func (l *launch) externalSecrets(doc *runtime.Document) error {
	for i, s := range doc.Secrets {
		data, err := os.ReadFile(s.File)
		if err != nil {
			return fmt.Errorf("cannot read secret: %w", err)
		}
		if s.Env != "" {
			doc.Spec.Process.Env = override(doc.Spec.Process.Env, []string{s.Env + "=" + string(data)})
			continue
		}
		dir := filepath.Join(l.c.RunDir, "secrets")
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		path := filepath.Join(dir, strconv.Itoa(i))
		err = os.WriteFile(path, data, 0o600)
		if err == nil {
			err = errors.Join(os.Chown(path, int(s.UID), int(s.GID)), unix.Chmod(path, s.Mode))
		}
		if err != nil {
			return fmt.Errorf("cannot write secret: %w", err)
		}
		doc.Spec.Mounts = append(doc.Spec.Mounts, specs.Mount{
			Destination: s.Target, Type: "bind", Source: path, Options: []string{"bind", "rprivate", "nosuid", "nodev", "noexec", "ro"},
		})
	}
	return nil
}
