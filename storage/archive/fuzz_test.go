package archive

import (
	"os"
	"path/filepath"
	"testing"

	"moss/storage/limit"
	"moss/test/hostile"
)

// FuzzList: whatever an archive has, its images are listed, or it is said why not; what
// is listed is in the archive.
func FuzzList(f *testing.F) {
	for _, images := range [][]hostile.Image{hostile.DockerImages(), hostile.OCIImages()} {
		for _, i := range images {
			if data := i.Files("/canary").Tar(); len(data) < 64<<10 {
				f.Add(data)
			}
		}
	}
	dir := f.TempDir()
	path := filepath.Join(dir, "archive")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		a, err := open(in, dir, limit.Limits{Size: 1 << 24})
		if err != nil {
			return
		}
		defer a.Close()
		all, _, err := list(a)
		if err != nil {
			return
		}
		for _, img := range all {
			for _, l := range img.layers {
				if r, size, err := a.open(l.file); err == nil {
					if size < 0 {
						t.Fatalf("%q has %d bytes", l.file, size)
					}
					r.Close()
				}
			}
		}
	})
}
