package hostile

import (
	"regexp"
	"testing"
)

// TestCorpus: all of it can be made, each has a name of its own, and there is enough.
func TestCorpus(t *testing.T) {
	seen := map[string]bool{}
	once := func(name, want string) {
		if seen[name] {
			t.Errorf("%s: twice", name)
		}
		seen[name] = true
		if _, err := regexp.Compile(want); err != nil && want != Any {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, a := range Archives() {
		once(a.Name, a.Error)
		data := Bytes("/canary", a.Write)
		if a.Pack != nil {
			data = a.Pack(data)
		}
		if len(data) == 0 && a.Name != "empty" || len(data) > 250<<20 {
			t.Errorf("%s: %d bytes", a.Name, len(data))
		}
	}
	for _, images := range [][]Image{DockerImages(), OCIImages(), ChunkedImages()} {
		for _, i := range images {
			once(i.Name, i.Error)
			if len(i.Files("/canary")) == 0 {
				t.Errorf("%s: empty", i.Name)
			}
		}
	}
	if len(seen) < 60 {
		t.Errorf("%d archives", len(seen))
	}
}
