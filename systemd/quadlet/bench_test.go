package quadlet

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// BenchmarkTwentyFiles is what the generator does at each daemon-reload.
func BenchmarkTwentyFiles(b *testing.B) {
	dir, out, kept := b.TempDir(), b.TempDir(), b.TempDir()
	text, err := os.ReadFile("testdata/good/keys/job.container")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("job-%d.container", i)), text, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	g := Generator{Out: out, Kept: kept, Moss: "/usr/bin/moss", Report: func(string, Problem) {}}
	for b.Loop() {
		g.Run([]string{dir})
	}
}
