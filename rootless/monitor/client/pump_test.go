package client

import "testing"

// The detach keys are found however they arrive, and nothing else is lost.
func TestDetacher(t *testing.T) {
	for name, c := range map[string]struct {
		keys   string
		in     []string
		out    string
		detach bool
	}{
		"none":           {"", []string{"a\x10\x11"}, "a\x10\x11", false},
		"at once":        {"\x10\x11", []string{"ab\x10\x11cd"}, "ab", true},
		"in parts":       {"\x10\x11", []string{"ab\x10", "\x11"}, "ab", true},
		"begun":          {"\x10\x11", []string{"\x10", "x"}, "\x10x", false},
		"begun twice":    {"\x10\x11", []string{"\x10\x10", "\x11"}, "\x10", true},
		"held back":      {"\x10\x11", []string{"x\x10"}, "x", false},
		"overlap":        {"aab", []string{"aaab"}, "a", true},
		"longer overlap": {"abac", []string{"ababac"}, "ab", true},
		"single":         {"q", []string{"xq"}, "x", true},
	} {
		d := NewDetacher([]byte(c.keys))
		out, detach := "", false
		for _, in := range c.in {
			data, found := d.Filter([]byte(in))
			out += string(data)
			detach = detach || found
		}
		if out != c.out || detach != c.detach {
			t.Errorf("%s: %q %v", name, out, detach)
		}
	}
}
