package record

import "testing"

// TestUnfinished: what a write leaves that was killed is told from other files.
func TestUnfinished(t *testing.T) {
	of := t.TempDir() + "/web.container"
	path, _, err := createBeside(of, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if got := Unfinished(path); got != of {
		t.Errorf("%s is of %q", path, got)
	}
	for _, other := range []string{"web.container", ".env", ".web.1", "web.container.12.3", ".web.container.12.", ".web.container.a.3", ".1.2", ""} {
		if of := Unfinished(other); of != "" {
			t.Errorf("%q is of %q", other, of)
		}
	}
}
