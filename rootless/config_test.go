package rootless

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The configuration is obeyed, and a mistake in it is named by its line.
func TestReadConfig(t *testing.T) {
	for _, tt := range []struct {
		text string
		want bool
		err  string
	}{
		{"", false, ""},
		{"# a comment\nno_new_privileges = true # here too\n", true, ""},
		{"no_new_privileges=false", false, ""},
		{"\nno_new_privileges = maybe", false, `line 2: no_new_privileges is "maybe"`},
		{"colour = green", false, `there is no key "colour"`},
	} {
		path := filepath.Join(t.TempDir(), "moss.conf")
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(path)
		if tt.err == "" && (err != nil || c.NoNewPrivileges != tt.want) {
			t.Errorf("%q: got %v, %v", tt.text, c, err)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: got error %v, want %q", tt.text, err, tt.err)
		}
	}
	if _, err := ReadConfig(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Errorf("no file: %v", err)
	}
}
