package rootless

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"moss/rootless/event"
	"moss/rootless/runtime"
	"moss/storage/image"
)

// MountImage mounts the files of an image for the user, read-only, in the kept
// mount namespace, and returns where. It stays until UnmountImage or a reboot.
func (e *Engine) MountImage(img *image.Image) (string, error) {
	point := e.Paths.MountedImage(img.ID)
	if isMounted(point) {
		return point, nil
	}
	if err := os.MkdirAll(point, 0o700); err != nil {
		return "", fmt.Errorf("cannot mount image %q: %w", img.ID[:12], err)
	}
	if err := e.mountImageAt(img, point); err != nil {
		os.Remove(point)
		return "", fmt.Errorf("cannot mount image %q: %w", img.ID[:12], err)
	}
	e.noteImage(event.Mount, img)
	return point, nil
}

func (e *Engine) mountImageAt(img *image.Image, point string) error {
	if len(img.Lower) == 0 {
		return errors.New("it has no layers")
	}
	at := point
	if err := e.mountLayers(&runtime.Overlay{Lower: img.Lower, UserXattr: true}, &at, ""); err != nil || at == point {
		return err
	}
	// A single layer is mounted as it is; it must not be written to.
	if err := unix.Mount(at, point, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return unix.MountSetattr(unix.AT_FDCWD, point, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// MountedImage is where the user has mounted an image; "" if it is not.
func (e *Engine) MountedImage(img *image.Image) string {
	if point := e.Paths.MountedImage(img.ID); isMounted(point) {
		return point
	}
	return ""
}

// UnmountImage undoes MountImage. With force it goes when nobody works in it any
// more.
func (e *Engine) UnmountImage(img *image.Image, force bool) error {
	point := e.MountedImage(img)
	if point == "" {
		return fmt.Errorf("cannot unmount image %q: it is not mounted", img.ID[:12])
	}
	if err := unmount(point, force); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return &busyError{"image", img.ID[:12], err}
		}
		return fmt.Errorf("cannot unmount image %q: %w", img.ID[:12], err)
	}
	os.Remove(point)
	e.noteImage(event.Unmount, img)
	return nil
}

// noteImage records what was done to an image.
func (e *Engine) noteImage(status string, img *image.Image, names ...string) {
	if len(names) == 0 {
		names = []string{""}
		if len(img.Names) > 0 {
			names = img.Names[:1]
		}
	}
	for _, name := range names {
		e.Events().Write(&event.Event{Type: event.Image, Status: status, ID: img.ID, Name: name})
	}
}
