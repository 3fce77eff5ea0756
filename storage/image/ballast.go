package image

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Ballast is the directory of files that hold nothing but room; see DropBallast.
func Ballast(root string) string { return filepath.Join(root, "ballast") }

// DropBallast throws away the room that is kept for removing images from a disk that
// is full. The next moss-image makes it again.
func DropBallast(root string) {
	files, _ := filepath.Glob(filepath.Join(Ballast(root), "*"))
	for _, path := range files {
		os.Remove(path)
	}
}

// isFull says whether an error is that of a disk, or a quota, without room.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
