package files

import (
	"os"
	"path/filepath"
	"testing"

	"moss/config"
)

// FuzzRead: whatever stands in a file, it is read, or there is an error with the line.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"unqualified-search-registries = [\"docker.io\"]\n[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation = \"b\"\n",
		"[containers]\nenv = [\"a=b\", {append=true}]\npids_limit = 5\n", "[aliases]\n\"x\" = \"example.com/x\"\n", "a = {b = {c = 1}}\n",
		"[a]\n[a.b]\n[[a.c]]\n", "x", "\x00", "a = [[[[1]]]]", "[storage.options]\nadditionalimagestores = [\"/x\"]\n", "unpack_max_size = -1\n", "a = 1979-05-27\n",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	names := []string{"containers/containers.conf", "containers/registries.conf", "containers/storage.conf", "moss/moss.conf"}
	for _, n := range names {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, n)), 0o755); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, n := range names {
			if err := os.WriteFile(filepath.Join(dir, n), data, 0o644); err != nil {
				t.Fatal(err)
			}
			if rec, err := Read(config.Place{Usr: "/nothing", Etc: "/nothing", User: dir}, 1000); err == nil && rec == nil {
				t.Fatal("neither a record nor an error")
			}
			os.Remove(filepath.Join(dir, n))
		}
	})
}
