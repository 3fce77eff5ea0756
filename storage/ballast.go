package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/storage/image"
)

// Ballast are files in <root>/ballast that hold nothing but room: on a disk that is
// full they are thrown away, so that what removes images can still write down what
// it removes. They are made again when there is room.
const (
	ballastFiles = 8
	ballastLeast = 32 << 10 // bytes of each
)

func (s *Store) ballast(n int) string {
	return filepath.Join(image.Ballast(s.Root), fmt.Sprint(n))
}

// ballastSize is how large each file has to be: the library writes its lists anew
// each time, and so does moss its index.
func (s *Store) ballastSize() int64 {
	name := s.lib.GraphDriverName()
	var lists int64
	for _, file := range []string{"storage/" + name + "-images/images.json", "storage/" + name + "-layers/layers.json", "images/index"} {
		if fi, err := os.Stat(filepath.Join(s.Root, file)); err == nil {
			lists += fi.Size()
		}
	}
	return max(ballastLeast, 2*lists/ballastFiles)
}

// keepBallast makes the files that are missing or have become too small.
func (s *Store) keepBallast() {
	size := s.ballastSize()
	if fi, err := os.Stat(s.ballast(ballastFiles - 1)); err == nil && fi.Size() >= size {
		return
	}
	if err := os.MkdirAll(filepath.Dir(s.ballast(0)), 0o700); err != nil {
		return
	}
	for n := range ballastFiles {
		if err := reserve(s.ballast(n), 2*size); err != nil {
			image.DropBallast(s.Root)
			slog.Debug("no room is kept for what removes images", "err", err)
			return
		}
	}
}

// reserve makes a file that has all its blocks.
func reserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		_, err = f.WriteAt(make([]byte, size), 0)
	}
	return errors.Join(err, f.Close())
}

// makeRoom throws the ballast away if the disk has no room for what is going to be
// written. What is written then removes something; afterwards keepBallast is called.
func (s *Store) makeRoom() {
	probe := s.ballast(ballastFiles)
	err := reserve(probe, s.ballastSize()*ballastFiles)
	os.Remove(probe)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		slog.Debug("the disk is full: room that was kept is used")
		image.DropBallast(s.Root)
	}
}
