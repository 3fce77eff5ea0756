package tree

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"moss/storage/limit"
	"moss/test/hostile"
)

// FuzzExtract: whatever an archive has, a directory beside the root stays as it is.
func FuzzExtract(f *testing.F) {
	for _, a := range hostile.Archives() {
		if data := a.Seed(false); data != nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		write(t, dir, "canary/", "canary/file=x", "root/")
		before := list(t, filepath.Join(dir, "canary"))
		root, err := os.Open(filepath.Join(dir, "root"))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		mine := func(uint32, uint32) (int, int, error) { return os.Getuid(), os.Getgid(), nil }
		Extract(context.Background(), bytes.NewReader(data), Confined(root), "/", Options{Overwrite: len(data)%2 == 0, NoDevices: true, Owner: mine, Limits: limit.Limits{Size: 1 << 20, Files: 200, Depth: 50}})
		if after := list(t, filepath.Join(dir, "canary")); after != before {
			t.Fatalf("%s became %s", before, after)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
			t.Fatalf("%v, %v", names, err)
		}
	})
}
