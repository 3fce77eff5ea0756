package quadlet

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"moss/record"
)

// TestDirectTogether: those who make services at once do not remove what others write, and
// what is made is known in the end.
func TestDirectTogether(t *testing.T) {
	dir := t.TempDir()
	from, made := filepath.Join(dir, "from"), filepath.Join(dir, "made")
	var wg sync.WaitGroup
	for i := range 16 {
		path := filepath.Join(from, fmt.Sprintf("c%d.container", i))
		if err := os.MkdirAll(from, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("[Container]\nImage=localhost/x:1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			g := Generator{Out: filepath.Join(dir, "to"), Moss: fmt.Sprint("/moss", i), Report: func(string, Problem) {}}
			if _, err := g.Direct([]string{from}, made); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var names []string
	if _, err := record.Read(made, &names); err != nil || len(names) != 16 {
		t.Errorf("made %q, %v", names, err)
	}
}
