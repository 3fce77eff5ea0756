package monitor

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 120000000, time.FixedZone("", 3600))

// piece is what one read of a stream brings.
type piece struct {
	kind byte
	data string
}

func logged(t *testing.T, l Log, pieces []piece) string {
	t.Helper()
	l.Path = filepath.Join(t.TempDir(), "ctr.log")
	f, err := openLog(&Config{Log: l})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pieces {
		f.write(p.kind, []byte(p.data), noon)
	}
	f.end(Stdout, noon)
	f.end(Stderr, noon)
	f.close()
	data, err := os.ReadFile(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func openFile(t *testing.T, l Log) *logFile {
	t.Helper()
	l.Driver = "k8s-file"
	f, err := openLog(&Config{Log: l})
	if err != nil {
		t.Fatal(err)
	}
	return f.(*logFile)
}

// The k8s-file driver writes what conmon writes, for lines, parts, and any bytes.
func TestK8sFile(t *testing.T) {
	const at = "2026-11-24T11:00:00.120000000+00:00 "
	for name, c := range map[string]struct {
		in   []piece
		want string
	}{
		"a line":         {[]piece{{Stdout, "one\n"}}, at + "stdout F one\n"},
		"lines, streams": {[]piece{{Stdout, "one\ntwo\n"}, {Stderr, "err\n"}}, at + "stdout F one\n" + at + "stdout F two\n" + at + "stderr F err\n"},
		"empty lines":    {[]piece{{Stdout, "\n\n"}}, at + "stdout F \n" + at + "stdout F \n"},
		"in parts":       {[]piece{{Stdout, "one"}, {Stdout, "two\n"}}, at + "stdout P one\n" + at + "stdout F two\n"},
		"no end":         {[]piece{{Stdout, "one"}}, at + "stdout P one\n" + at + "stdout F:end \n"},
		"interleaved":    {[]piece{{Stdout, "o"}, {Stderr, "e\n"}, {Stdout, "\n"}}, at + "stdout P o\n" + at + "stderr F e\n" + at + "stdout F \n"},
		"binary":         {[]piece{{Stdout, "\x00\xff\r\x1b[0m\n"}}, at + "stdout F \x00\xff\r\x1b[0m\n"},
		"nothing":        {nil, ""},
	} {
		if got := logged(t, Log{Driver: "k8s-file"}, c.in); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The json-file driver writes lines of JSON that say the text, whatever it was.
func TestJSONFile(t *testing.T) {
	type line struct{ Log, Stream, Time string }
	for name, c := range map[string]struct {
		in   []piece
		want []line
	}{
		"lines":           {[]piece{{Stdout, "a\nb\n"}, {Stderr, "c\n"}}, []line{{Log: "a\n", Stream: "stdout"}, {Log: "b\n", Stream: "stdout"}, {Log: "c\n", Stream: "stderr"}}},
		"parts":           {[]piece{{Stdout, "a"}, {Stdout, "b\n"}}, []line{{Log: "a", Stream: "stdout"}, {Log: "b\n", Stream: "stdout"}}},
		"no end":          {[]piece{{Stdout, "a"}}, []line{{Log: "a", Stream: "stdout"}}},
		"escapes":         {[]piece{{Stdout, "\"\\\t\r\b\x00\x7f<>&\u2028\n"}}, []line{{Log: "\"\\\t\r\b\x00\x7f<>&\u2028\n", Stream: "stdout"}}},
		"not text":        {[]piece{{Stdout, "a\xffb\n"}}, []line{{Log: "a\ufffdb\n", Stream: "stdout"}}},
		"cut rune":        {[]piece{{Stdout, "a\xe2\x82"}, {Stdout, "\xac!\n"}}, []line{{Log: "a", Stream: "stdout"}, {Log: "€!\n", Stream: "stdout"}}},
		"cut at once":     {[]piece{{Stdout, "\xe2"}, {Stdout, "\x82"}, {Stdout, "\xac\n"}}, []line{{Log: "€\n", Stream: "stdout"}}},
		"cut for ever":    {[]piece{{Stdout, "a\xe2\x82"}}, []line{{Log: "a", Stream: "stdout"}, {Log: "\ufffd\ufffd", Stream: "stdout"}}},
		"cut at the line": {[]piece{{Stdout, "a\xe2\n"}}, []line{{Log: "a\ufffd\n", Stream: "stdout"}}},
	} {
		var got []line
		for text := range strings.Lines(logged(t, Log{Driver: "json-file"}, c.in)) {
			var l line
			if err := json.Unmarshal([]byte(text), &l); err != nil {
				t.Errorf("%s: %q: %v", name, text, err)
			}
			if l.Time != "2026-11-24T11:00:00.12Z" {
				t.Errorf("%s: time %q", name, l.Time)
			}
			l.Time = ""
			got = append(got, l)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Rotation keeps every file below the size, at a line's border, as many as asked
// for, the newest first.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/ctr.log"
	f := openFile(t, Log{Path: path, MaxSize: 200, MaxFile: 2})
	for i := range 10 { // 46+ bytes a line: four in each file
		f.write(Stdout, fmt.Appendf(nil, "%d\n%d\n", 2*i, 2*i+1), noon)
	}
	f.write(Stdout, []byte(strings.Repeat("x", 300)+"\n"), noon)
	f.close()
	var got []string
	for _, p := range []string{path, path + ".1", path + ".2", path + ".3"} {
		data, err := os.ReadFile(p)
		if err != nil {
			got = append(got, "none")
			continue
		}
		var lines []string
		for l := range strings.Lines(string(data)) {
			_, l, _ = strings.Cut(strings.TrimSpace(l), " F ")
			lines = append(lines, l[:min(len(l), 3)])
		}
		got = append(got, strings.Join(lines, " "))
	}
	want := []string{"xxx", "16 17 18 19", "12 13 14 15", "none"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

// Without files to keep, a full one is begun anew.
func TestRotationKeepsNone(t *testing.T) {
	path := t.TempDir() + "/ctr.log"
	f := openFile(t, Log{Path: path, MaxSize: 60})
	f.write(Stdout, []byte("1\n2\n3\n"), noon)
	f.close()
	data, _ := os.ReadFile(path)
	entries, _ := os.ReadDir(filepath.Dir(path))
	if !strings.HasSuffix(string(data), "F 3\n") || strings.Count(string(data), "\n") != 1 || len(entries) != 1 {
		t.Errorf("%q, %d files", data, len(entries))
	}
}

// A full disk loses whole lines, and no more than them; afterwards it goes on, and
// says how many.
func TestLogDiskFull(t *testing.T) {
	path := t.TempDir() + "/ctr.log"
	f := openFile(t, Log{Path: path})
	f.write(Stdout, []byte("kept\n"), noon)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Skip(err)
	}
	// The limit of a file's size is met in the middle of a write, as a full disk is.
	small := limit
	small.Cur = uint64(f.size) + 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &small); err != nil {
		t.Skip(err)
	}
	f.write(Stdout, []byte("lost\n"), noon)
	f.write(Stderr, []byte("lost\nlost\n"), noon)
	unix.Setrlimit(unix.RLIMIT_FSIZE, &limit)
	f.write(Stdout, []byte("again\n"), noon)
	f.write(Stdout, []byte("and again\n"), noon)
	f.close()
	data, _ := os.ReadFile(path)
	got := regexp.MustCompile(`(?m)^\S+ `).ReplaceAllString(string(data), "")
	want := "stdout F kept\nstderr F moss: 3 lines of output are missing here: the log could not be written: file too large\nstdout F again\nstdout F and again\n"
	if got != want {
		t.Errorf("%q", got)
	}
}

// reopen-log is for who has renamed the file.
func TestReopen(t *testing.T) {
	path := t.TempDir() + "/ctr.log"
	f := openFile(t, Log{Path: path})
	f.write(Stdout, []byte("1\n"), noon)
	os.Rename(path, path+".old")
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	f.write(Stdout, []byte("2\n"), noon)
	for p, want := range map[string]string{path: "F 2\n", path + ".old": "F 1\n"} {
		if data, _ := os.ReadFile(p); !strings.HasSuffix(string(data), want) {
			t.Errorf("%s: %q", p, data)
		}
	}
	if l, err := openLog(&Config{Log: Log{Driver: "none"}}); l != (noLog{}) || err != nil || l.reopen() != nil {
		t.Error("the driver none has a log")
	}
}

// The pause doubles up to a minute, and begins anew after ten seconds of running.
func TestBackOff(t *testing.T) {
	var got []time.Duration
	pause := time.Duration(0)
	for range 12 {
		pause = backOff(pause, time.Second)
		got = append(got, pause/time.Millisecond)
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if p := backOff(pause, 10*time.Second); p != firstPause {
		t.Errorf("after a good run: %v", p)
	}
}

func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		policy   policy
		code     int
		restarts int
		want     bool
	}{
		{policy{}, 1, 0, false}, {policy{name: "no"}, 1, 0, false},
		{policy{name: "always"}, 0, 1000, true}, {policy{name: "unless-stopped"}, 0, 0, true},
		{policy{name: "on-failure"}, 0, 0, false}, {policy{name: "on-failure"}, 1, 1000, true},
		{policy{"on-failure", 2}, 1, 1, true}, {policy{"on-failure", 2}, 1, 2, false},
	} {
		if got := c.policy.wants(c.code, c.restarts); got != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// The hosts file gets the container's and the host's addresses; a restart with
// other addresses replaces them, and the file stays the same one.
func TestCompleteFiles(t *testing.T) {
	dir := t.TempDir()
	c := &Config{HostsFile: dir + "/hosts", HostsText: "127.0.0.1\tlocalhost\nhost-gateway\thost.moss.internal\n",
		ResolvFile: dir + "/resolv.conf", ResolvText: "search example\n", HostNames: "id web"}
	os.WriteFile(c.HostsFile, []byte(strings.Repeat("longer than what comes in its place\n", 20)), 0o644)
	os.WriteFile(c.ResolvFile, nil, 0o644)
	before, _ := os.Stat(c.HostsFile)
	for _, last := range []string{"2", "3"} {
		st := &slirp.Status{
			Interfaces:  []slirp.Interface{{IPs: []netip.Prefix{netip.MustParsePrefix("10.89.0." + last + "/16"), netip.MustParsePrefix("fd00::" + last + "/64")}}},
			DNS:         []netip.Addr{netip.MustParseAddr("10.89.0.1")},
			HostGateway: []netip.Addr{netip.MustParseAddr("169.254.1.2")},
		}
		if err := c.completeFiles(st); err != nil {
			t.Fatal(err)
		}
		hosts, _ := os.ReadFile(c.HostsFile)
		want := "127.0.0.1\tlocalhost\n169.254.1.2\thost.moss.internal\n10.89.0." + last + "\tid web\nfd00::" + last + "\tid web\n"
		if string(hosts) != want {
			t.Errorf("%q", hosts)
		}
		if resolv, _ := os.ReadFile(c.ResolvFile); string(resolv) != "search example\nnameserver 10.89.0.1\n" {
			t.Errorf("%q", resolv)
		}
	}
	if after, _ := os.Stat(c.HostsFile); !os.SameFile(before, after) {
		t.Error("it is another file: the container sees the old one")
	}
}

// What a settled monitor knows is what it knew before.
func TestSettledState(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[1])
	var p [2]int
	unix.Pipe2(p[:], unix.O_CLOEXEC)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Skip(err)
	}
	loop, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{loop: loop, peer: -1, pid: os.Getpid(), pidfd: pidfd, runDir: "/run/\"x\"\n", group: "/g",
		policy: policy{"on-failure", 3}, started: time.Unix(0, 12345), restarts: 4, pause: time.Second, stopped: true, subreaper: true,
		oom: oomWatch{fd: -1, told: 2, around: 3}, notify: &notifier{socket: "@n", mode: "healthy", fd: -1, every: time.Hour, within: 2 * time.Hour}, wanted: true}
	m.health = &health{Health: Health{Interval: 1, Timeout: 2, Retries: 3, OnFailure: "kill"}, m: m, status: "starting", streak: 4, awake: true, successes: 5}
	m.log = &logFile{driver: "json-file", path: "/l", maxSize: 5, maxFile: 6, fd: p[1], size: 7, lost: loss{3, "no\nspace"},
		streams: [2]lineState{1: {partial: true, rest: []byte{0xe2, 0x82}}}}
	m.stdin = input{m: m, fd: -1}
	m.out[0] = &output{m: m, fd: p[0], kind: Stdout}
	m.attach, m.ctl = &listener{m: m, fd: pair[0]}, &listener{m: m, fd: loop.fd, control: true}
	state, fds := m.save()
	if len(fds) != 5 {
		t.Errorf("%d descriptors", len(fds))
	}
	again, _ := newLoop()
	r := &monitor{loop: again, log: noLog{}}
	if err := r.restore(state); err != nil {
		t.Fatal(err)
	}
	second, _ := r.save()
	if second != state {
		t.Errorf("%s\nis not\n%s", second, state)
	}
	if err := (&monitor{loop: again}).restore(state[:len(state)/2]); err == nil {
		t.Error("half of it was taken")
	}
}
