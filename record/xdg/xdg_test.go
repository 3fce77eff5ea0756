package xdg

import "testing"

func TestDirectories(t *testing.T) {
	for _, c := range []struct{ xdg, home, config, data string }{
		{"", "/home/u", "/home/u/.config", "/home/u/.local/share"},
		{"/x", "/home/u", "/x", "/x"},
		{"/x", "", "/x", "/x"},
		{"x", "/home/u", "/home/u/.config", "/home/u/.local/share"},
		{"x", "u", "", ""},
		{"", "", "", ""},
	} {
		environ := func(name string) string {
			if name == "HOME" {
				return c.home
			}
			return c.xdg
		}
		if config, data := Config(environ), Data(environ); config != c.config || data != c.data {
			t.Errorf("%+v: got %q and %q", c, config, data)
		}
	}
}
