package syntax

import (
	"slices"
	"testing"
)

func TestPersonality(t *testing.T) {
	for in, want := range map[string][]string{
		"LINUX32": {"LINUX32"}, "per_linux": {"LINUX"}, "ADDR_NO_RANDOMIZE": {"LINUX", "ADDR_NO_RANDOMIZE"},
		"linux32,uname26": {"LINUX32", "UNAME26"}, "x": nil, "": nil, "LINUX,": nil,
	} {
		got, err := Personality(in)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("Personality(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestCgroupConf(t *testing.T) {
	for in, good := range map[string]bool{
		"memory.high=1": true, "io.max=8:0 rbps=1": true, "memory.high=": true, "memory.high": false, "cgroup.procs=1": false,
		"memory=1": false, "../memory.high=1": false, ".high=1": false, "memory.=1": false,
	} {
		if _, _, err := CgroupConf(in); (err == nil) != good {
			t.Errorf("CgroupConf(%q): %v", in, err)
		}
	}
}

func TestIOLimits(t *testing.T) {
	for _, in := range []string{"", "x:1", "/dev/null:1mb", "/dev/null", "/no/such:1", "/dev/null:"} {
		if _, _, err := IODevice(in); err == nil {
			t.Errorf("IODevice(%q): no error", in)
		}
	}
	for in, want := range map[string]uint16{"10": 10, "1000": 1000, "9": 0, "1001": 0, "-1": 0, "x": 0} {
		if got, err := IOWeight(in); got != want || (err == nil) != (want > 0) {
			t.Errorf("IOWeight(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	if n, err := IOBytes("1mb"); n != 1<<20 || err != nil {
		t.Errorf("IOBytes: %d, %v", n, err)
	}
	for _, in := range []string{"0", "-1", "x"} {
		if _, err := IOCount(in); err == nil {
			t.Errorf("IOCount(%q): no error", in)
		}
	}
}

func TestCDINames(t *testing.T) {
	for in, want := range map[string]bool{
		"nvidia.com/gpu=all": true, "vendor.com/class=a/b": true, "/dev/null": false, "/dev/a=b": false, "x=y": false,
		"vendor.com/class": false, "vendor.com/class=": false, "nodot/class=x": false,
	} {
		if got := IsCDI(in); got != want {
			t.Errorf("IsCDI(%q) = %v", in, got)
		}
	}
	if got, err := GPUs("0,1"); !slices.Equal(got, []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}) || err != nil {
		t.Errorf("GPUs: %q, %v", got, err)
	}
	for _, in := range []string{"0,", "a b", "/dev/x"} {
		if _, err := GPUs(in); err == nil {
			t.Errorf("GPUs(%q): no error", in)
		}
	}
}

func TestTimeZone(t *testing.T) {
	for _, in := range []string{"/etc/passwd", "../../etc/passwd", "Europe/../../x", "No/Where", "."} {
		if TimeZone(in) == nil {
			t.Errorf("TimeZone(%q): no error", in)
		}
	}
}
