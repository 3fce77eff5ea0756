package rootless

import "testing"

// Signals are understood by every name that kill(1) and podman understand.
func TestParseSignal(t *testing.T) {
	for in, want := range map[string]int{
		"SIGTERM": 15, "term": 15, "9": 9, "KILL": 9, "sigusr1": 10, "SIGRTMIN+3": 37, "RTMAX-1": 63, "RTMIN": 34, "64": 64,
	} {
		got, err := ParseSignal(in)
		if err != nil || int(got) != want {
			t.Errorf("%q: got %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "65", "-1", "SIGFOO", "RTMIN+31", "RTMAX-x", "RTMAX+1"} {
		if got, err := ParseSignal(in); err == nil {
			t.Errorf("%q: got %d, want an error", in, got)
		}
	}
}

// A name that is no name is refused before anything is made.
func TestCheckName(t *testing.T) {
	for _, ok := range []string{"a", "web-1", "A.b_c"} {
		if err := CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "-a", ".a", "a/b", "a b", "ä", "a\n"} {
		if CheckName(bad) == nil {
			t.Errorf("%q is taken for a name", bad)
		}
	}
}
