package syntax

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moss/rootless/container"
)

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{
		"0": 0, "1": 1, "10b": 10, "1k": 1024, "1K": 1024, "64m": 64 << 20, "64MB": 64 << 20, "64MiB": 64 << 20,
		"1.5g": 3 << 29, "2t": 2 << 40, "1 GB": 1 << 30,
	} {
		if got, err := Size(in); err != nil || got != want {
			t.Errorf("Size(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "m", "1x", "-1", "1mm", "1kk", "10000000t", "nan", "inf", "1 2"} {
		if got, err := Size(in); err == nil {
			t.Errorf("Size(%q) = %d; want an error", in, got)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"10m":                  now.Add(-10 * time.Minute),
		"1h30m":                now.Add(-90 * time.Minute),
		"2026-11-23":           time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC),
		"2026-11-23T10:20":     time.Date(2026, 11, 23, 10, 20, 0, 0, time.UTC),
		"2026-11-23T10:20:30Z": time.Date(2026, 11, 23, 10, 20, 30, 0, time.UTC),
		"1700000000":           time.Unix(1700000000, 0),
	} {
		if got, err := Moment(in, now); err != nil || !got.Equal(want) {
			t.Errorf("Moment(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := Moment("yesterday", now); err == nil {
		t.Error("a word was taken for a time")
	}
}

func TestInterval(t *testing.T) {
	for in, want := range map[string]time.Duration{"250": 250 * time.Millisecond, "2s": 2 * time.Second, "1m": time.Minute} {
		if got, err := Interval(in); err != nil || got != want {
			t.Errorf("Interval(%q) = %v, %v", in, got, err)
		}
	}
	if _, err := Interval("-1s"); err == nil {
		t.Error("a negative interval was taken")
	}
}

func TestEnvironment(t *testing.T) {
	host := []string{"HOME=/root", "LC_ALL=C", "LC_TIME=de", "EMPTY="}
	for in, want := range map[string][]string{
		"A=1": {"A=1"}, "A=": {"A="}, "A=b=c": {"A=b=c"}, "HOME": {"HOME=/root"}, "NOTHING": nil, "EMPTY": {"EMPTY="},
		"LC_*": {"LC_ALL=C", "LC_TIME=de"}, "": nil, "A=*": {"A=*"},
	} {
		if got, err := Environment(in, host); err != nil || !slices.Equal(got, want) {
			t.Errorf("Environment(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	if _, err := Environment("=x", host); err == nil {
		t.Error("a variable without a name was taken")
	}
}

// The file is podman's and Docker's: no quotes, no expansion.
func TestEnvironmentFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "env")
	text := "# comment\n\n  A=1\nB=\"quoted $A\"\r\nHOME\nNOTHING\nC= spaces \n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := EnvironmentFile(path, []string{"HOME=/root"})
	want := []string{"A=1", `B="quoted $A"`, "HOME=/root", "C= spaces "}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if err := os.WriteFile(path, []byte("A=1\n=2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := EnvironmentFile(path, nil); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("%v; want an error with the line", err)
	}
}

func TestEntrypoint(t *testing.T) {
	for in, want := range map[string][]string{
		"": {}, "sh": {"sh"}, "/bin/sh -c": {"/bin/sh -c"}, `["sh","-c"]`: {"sh", "-c"}, "[]": {},
	} {
		got, err := Entrypoint(in)
		if err != nil || got == nil || !slices.Equal(got, want) {
			t.Errorf("Entrypoint(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"[sh", `["sh"`, `[1]`, `["a"] x`} {
		if _, err := Entrypoint(in); err == nil {
			t.Errorf("Entrypoint(%q): no error", in)
		}
	}
}

func TestUlimit(t *testing.T) {
	for in, want := range map[string]container.Rlimit{
		"nofile=1024":       {Name: "nofile", Soft: 1024, Hard: 1024},
		"nofile=1024:2048":  {Name: "nofile", Soft: 1024, Hard: 2048},
		"core=-1":           {Name: "core", Soft: -1, Hard: -1},
		"core=0:-1":         {Name: "core", Soft: 0, Hard: -1},
		"RLIMIT_NPROC=5":    {Name: "nproc", Soft: 5, Hard: 5},
		"memlock=unlimited": {Name: "memlock", Soft: -1, Hard: -1},
	} {
		if got, err := Ulimit(in); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("Ulimit(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "nofile", "nofile=", "nofile=x", "nofile=2:1", "nofile=-1:5", "nofile=-2", "files=1"} {
		if got, err := Ulimit(in); err == nil {
			t.Errorf("Ulimit(%q) = %+v; want an error", in, got)
		}
	}
	if got, err := Ulimit("host"); err != nil || len(got) != len(rlimits) {
		t.Errorf("Ulimit(host) = %+v, %v", got, err)
	}
}

func TestSignal(t *testing.T) {
	for in, want := range map[string]int{"TERM": 15, "SIGTERM": 15, "sigterm": 15, "9": 9, "RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMAX-1": 63} {
		if got, err := Signal(in); err != nil || got != want {
			t.Errorf("Signal(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "FOO", "0", "65", "RTMIN+31", "RTMIN+x", "-9"} {
		if got, err := Signal(in); err == nil {
			t.Errorf("Signal(%q) = %d; want an error", in, got)
		}
	}
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string][]byte{
		"ctrl-p,ctrl-q": {16, 17}, "ctrl-a,x": {1, 'x'}, "a": {'a'}, "ctrl-@": {0}, "ctrl-[": {27}, "ctrl-_": {31}, "": nil,
	} {
		if got, err := DetachKeys(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("DetachKeys(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"xx", "ctrl-", "ctrl-aa", "ctrl-1", "a,,b", "alt-a"} {
		if got, err := DetachKeys(in); err == nil {
			t.Errorf("DetachKeys(%q) = %v; want an error", in, got)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	for in, want := range map[string]string{"no": "no", "never": "no", "always": "always", "unless-stopped": "unless-stopped", "on-failure": "on-failure"} {
		if got, n, err := RestartPolicy(in); err != nil || got != want || n != 0 {
			t.Errorf("RestartPolicy(%q) = %q, %d, %v", in, got, n, err)
		}
	}
	if got, n, err := RestartPolicy("on-failure:3"); err != nil || got != "on-failure" || n != 3 {
		t.Errorf("on-failure:3: %q, %d, %v", got, n, err)
	}
	for _, in := range []string{"sometimes", "always:3", "on-failure:", "on-failure:x", "on-failure:-1"} {
		if _, _, err := RestartPolicy(in); err == nil {
			t.Errorf("RestartPolicy(%q): no error", in)
		}
	}
}
