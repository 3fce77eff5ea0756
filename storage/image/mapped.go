package image

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// Mapped finds the tree of an image whose owners are shifted as req says, if it
// has been made; it is a root filesystem, a single lower directory. Otherwise
// moss-image makes it (Request.Mapped).
func (im *Images) Mapped(req MappedRequest) (dir string, ok bool) {
	i, err := im.read(req.Image)
	if err != nil {
		return "", false
	}
	dir = MappedDir(im.root, i, req)
	_, err = os.Stat(dir)
	return dir, err == nil
}

// MappedDir is where the tree of an image under a mapping is, or would be. Images
// with the same layers share it.
func MappedDir(root string, i *Image, req MappedRequest) string {
	top := ""
	if len(i.Layers) > 0 {
		top = i.Layers[0]
	}
	h := sha256.New()
	json.NewEncoder(h).Encode([]any{top, req.UIDMap, req.GIDMap})
	name := hex.EncodeToString(h.Sum(nil)[:16])
	if req.Redirect {
		name += "-inodes"
	}
	return filepath.Join(root, "mapped", name)
}
