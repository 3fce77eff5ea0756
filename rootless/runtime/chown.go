package runtime

import (
	"fmt"
	"io/fs"
	"os"
)

// chown gives the mounts that were mounted with U to the user of the program.
// os.Root keeps to the directory, whatever links are in it.
func (s *stage) chown(who identity) error {
	for _, target := range s.doc.Chown {
		if err := chownTree(target, who.uid, who.gid); err != nil {
			return fmt.Errorf("cannot give %q to user %d: %w", target, who.uid, err)
		}
	}
	return nil
}

func chownTree(dir string, uid, gid int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return os.Lchown(dir, uid, gid)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, uid, gid)
	})
}
