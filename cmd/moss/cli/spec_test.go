package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"moss/rootless/container"
	"moss/slirp"
)

// specOf is what "moss run WORDS" asks for.
func specOf(t *testing.T, words ...string) (*container.Spec, error) {
	t.Helper()
	cmd := new(RunCmd)
	if err := parse("moss run", cmd, words); err != nil {
		return nil, err
	}
	if err := cmd.prepare(); err != nil {
		return nil, err
	}
	return cmd.spec, nil
}

// badValues has for each flag of run that takes a value some that are wrong.
var badValues = map[string][]string{
	"allow-out":      {"x:0", "x:70000", "a b", "10.0.0.0/33", "none,x", "any,x", "http://x", ","},
	"host-access":    {"udp:53", "tcp:0", "tcp:x", "70000"},
	"wake":           {"udp:53", "tcp:0", "tcp:x", "70000"},
	"idle":           {"x", "-1s"},
	"low-ports":      {"nonsense"},
	"hooks-dir":      {"/no/such"},
	"gpus":           {"a b"},
	"cdi-spec-dir":   {"/no/such"},
	"as":             {"nobody at all"},
	"seccomp-policy": {"x"},
	"passwd-entry":   {"x"},
	"group-entry":    {"x"},
	"hostuser":       {"no-such-user"},
	"tz":             {"No/Where", "../x"},
	"systemd":        {"perhaps"},
	"personality":    {"x", "LINUX,y"},
	"chrootdirs":     {"x"},
	"hosts-file":     {"/no/such"},
	"env-merge":      {"x"},
	"cert-dir":       {"/no/such"},
	"retry":          {"x", "-1"},
	"retry-delay":    {"x", "-1s"},
	"name":           {"a b", "-x", "a/b"},
	"label":          {"=x"},
	"label-file":     {"/no/such"},
	"annotation":     {"x", "=x"},
	"cidfile":        {"/no/such/dir/id", "/etc/passwd"},
	"pidfile":        {"/no/such/dir/pid"},
	"runtime":        {"/no/such", "no-such-runtime", "/etc/passwd"},
	"pull":           {"sometimes"},
	"platform":       {"x", "windows/amd64", "linux/a/b/c"},
	"os":             {"windows"},
	"tls-verify":     {"maybe"},
	"authfile":       {"/no/such"},
	"entrypoint":     {"[x"},
	"env":            {"=x"},
	"env-file":       {"/no/such"},
	"unsetenv":       {"A=b"},
	"workdir":        {"relative"},
	"user":           {":", "a:b:c"},
	"umask":          {"9", "1777"},
	"ulimit":         {"nofile", "nofile=x", "files=1"},
	"oom-score-adj":  {"x", "1001", "-1001"},
	"volume":         {":/x", "a:x", "/no/such:/x", "a:/x:nonsense"},
	"mount":          {"nonsense", "type=x,dst=/x", "type=bind,src=/no/such,dst=/x"},
	"tmpfs":          {"x", "/x:nonsense"},
	"volumes-from":   {":ro", "a:nonsense"},
	"image-volume":   {"x"},
	"shm-size":       {"x", "-1"},
	"secret":         {"a,type=x", "a,mode=9", "a,target=../x", "type=env"},
	"device":         {"/no/such", "x", "/dev/null:q"},
	"network":        {"a b", "none:x", "container:"},
	"publish":        {"x", "80:x", "80:80/ftp", "1.2:80:80"},
	"expose":         {"x", "80/ftp"},
	"hostname":       {"a b", "-x"},
	"add-host":       {"x", "x:y"},
	"dns":            {"x"},
	"network-alias":  {"a b"},
	"ip":             {"x", "::1"},
	"ip6":            {"x", "1.2.3.4"},
	"mac-address":    {"x"},
	"userns":         {"x", "keep-id:colour=1"},
	"uidmap":         {"x", "0:1:2:3"},
	"gidmap":         {"x"},
	"pid":            {"x", "container:"},
	"ipc":            {"x"},
	"uts":            {"x", "none"},
	"cgroupns":       {"x"},
	"cap-add":        {"nonsense"},
	"cap-drop":       {"nonsense"},
	"security-opt":   {"nonsense", "seccomp=/no/such"},
	"sysctl":         {"x", "vm.swappiness=1"},
	"memory":         {"x", "1x"},
	"cpus":           {"x", "-1"},
	"cpu-shares":     {"x", "-1"},
	"cpuset-cpus":    {"x", "3-1"},
	"cpuset-mems":    {"x"},
	"pids-limit":     {"x", "-2"},
	"blkio-weight":   {"x", "5", "1001"},

	"shm-size-systemd": {"x"}, "conmon-pidfile": {"/no/such/dir/pid"},
	"memory-reservation": {"x"}, "blkio-weight-device": {"x", "/dev/null:100", "/no/such:100"},
	"device-read-bps": {"x", "/no/such:1mb"}, "device-write-bps": {"x"}, "device-read-iops": {"x"}, "device-write-iops": {"x"},

	"cgroups":      {"nonsense"},
	"cgroup-conf":  {"x", "memory.high", "cgroup.procs=1", "a/b.c=1"},
	"cpu-period":   {"x", "10"},
	"cpu-quota":    {"x", "10", "-2"},
	"restart":      {"sometimes", "on-failure:x"},
	"stop-signal":  {"FOO", "99"},
	"stop-timeout": {"x", "-2"},
	"log-driver":   {"x"},
	"log-opt":      {"x", "nonsense=1", "max-size=x", "max-file=0", "path=/no/such/dir/log"},
	"log-level":    {"x"}, "cgroup-manager": {"x"},
	"timeout":  {"x", "-1"},
	"sdnotify": {"sometimes"},

	"health-cmd": {"[]", " "}, "health-interval": {"x", "-1s", "1ms"}, "health-timeout": {"x", "10ms"}, "health-retries": {"x", "0"},
	"health-start-period": {"x", "-1s"}, "health-startup-cmd": {"[]"}, "health-startup-interval": {"x"}, "health-startup-timeout": {"x"},
	"health-startup-retries": {"x", "-1"}, "health-startup-success": {"x", "0"}, "health-on-failure": {"explode"},
	"health-log-destination": {"/no/such"}, "health-max-log-count": {"x", "-1"}, "health-max-log-size": {"x", "-1"},

	"detach-keys": {"xx", "ctrl-"}, "preserve-fd": {"x", "2", "250"}, "preserve-fds": {"x", "-1", "250"},
	"attach":    {"x"},
	"sig-proxy": {"maybe"},
}

// freeValues are flags whose value may be any text, and the flags that are
// combined wrongly further below.
var freeValues = []string{"arch", "variant", "group-add", "dns-search", "dns-option", "cgroup-parent", "memory-swap", "init-path", "subuidname", "subgidname", "requires", "creds", "root", "runroot", "volumepath", "registries-conf"}

// Every wrong value is told with the flag's name, and ends with 125.
func TestBadValues(t *testing.T) {
	parser, err := newParser("moss run", new(RunCmd))
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range parser.Model.Flags {
		if !flag.IsBool() && len(badValues[flag.Name]) == 0 && !slices.Contains(freeValues, flag.Name) {
			t.Errorf("--%s: no wrong value is tried", flag.Name)
		}
	}
	for name, values := range badValues {
		for _, value := range values {
			err := runError(t, "--"+name+"="+value, "img")
			switch {
			case err == nil:
				t.Errorf("--%s=%s: no error", name, value)
			case exitCode(err) != exitMoss:
				t.Errorf("--%s=%s: exit code %d", name, value, exitCode(err))
			case !strings.Contains(err.Error(), "--"+name):
				t.Errorf("--%s=%s: the message does not name the flag: %v", name, value, err)
			case !strings.Contains(err.Error(), value):
				t.Errorf("--%s=%s: the message does not name the value: %v", name, value, err)
			}
		}
	}
}

// runError is the error of a command line before anything is made.
func runError(t *testing.T, words ...string) error {
	t.Helper()
	cmd := new(RunCmd)
	if err := parse("moss run", cmd, words); err != nil {
		return err
	}
	if err := setLog(cmd.LogLevel); err != nil {
		return err
	}
	if err := cmd.checkManager(); err != nil {
		return err
	}
	return cmd.prepare()
}

// What flags say together can be wrong too.
func TestBadCombinations(t *testing.T) {
	for line, want := range map[string]string{
		"":                                         "image is missing",
		"--replace img":                            "--replace needs --name",
		"--rm --restart always img":                "--rm cannot be combined",
		"--platform linux/arm64 --arch arm img":    "--platform cannot be combined",
		"--network host --network none img":        "more than once",
		"--network a --network a img":              "given twice",
		"--hostname x --uts host img":              "--hostname cannot be combined",
		"--no-hosts --add-host a:1.2.3.4 img":      "--no-hosts cannot be combined",
		"--network host --ip 1.2.3.4 img":          "need a network with a name",
		"--network a --network b --ip 1.2.3.4 x":   "single network",
		"--network container:x --dns 1.1.1.1 x":    "--dns",
		"-v a:/x --tmpfs /x img":                   "mounted on",
		"-v a:/x -v b:/x/ img":                     "mounted on",
		"-p 80:80 -p 80:81 img":                    "published twice",
		"--memory-swap 1g img":                     "needs --memory",
		"-m 1g --memory-swap 1m img":               "less than --memory",
		"--userns keep-id --uidmap 0:0:1 img":      "--userns cannot be combined",
		"--cap-add SYS_TIME --cap-drop sys_time x": "both",
		"--group-add keep-groups --group-add 5 x":  "keep-groups",
		"-t --log-driver passthrough img":          "passthrough",
		"--sysctl net.a=1 --network host img":      "shares the host",
		"-d -a stdout img":                         "--attach cannot be combined",
		"--rootfs /no/such/dir":                    "/no/such/dir",
		"--label= img":                             "empty",
	} {
		err := runError(t, strings.Fields(line)...)
		if err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitMoss {
			t.Errorf("%s: %v; want an error with %q", line, err, want)
		}
	}
}

// The flags become the Spec that they mean.
func TestSpec(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("FROM_HOST", "yes")
	t.Setenv("http_proxy", "http://proxy")
	if err := os.WriteFile("vars", []byte("A=file\nB=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("labels", []byte("x=file\ny=file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	umask, score, pids := uint32(0o27), -5, int64(-1)
	type check struct {
		line string
		get  func(*container.Spec) any
		want any
	}
	for _, c := range []check{
		{"img", func(s *container.Spec) any { return s.Image.Name }, "img"},
		{"img", func(s *container.Spec) any { return s.Process.Command }, []string(nil)},
		{"img a -b", func(s *container.Spec) any { return s.Process.Command }, []string{"a", "-b"}},
		{"img", func(s *container.Spec) any { return s.Process.Entrypoint }, []string(nil)},
		{"--entrypoint= img", func(s *container.Spec) any { return s.Process.Entrypoint }, []string{}},
		{`--entrypoint ["a","b"] img`, func(s *container.Spec) any { return s.Process.Entrypoint }, []string{"a", "b"}},
		{"--env-file vars -e B=flag -e FROM_HOST -e NOT_THERE img", func(s *container.Spec) any { return s.Process.Env }, []string{"http_proxy=http://proxy", "A=file", "B=file", "B=flag", "FROM_HOST=yes"}},
		{"--http-proxy=false img", func(s *container.Spec) any { return len(s.Process.Env) }, 0},
		{"--http-proxy img", func(s *container.Spec) any { return s.Process.Env }, []string{"http_proxy=http://proxy"}},
		{"img", func(s *container.Spec) any { return s.Process.Env }, []string{"http_proxy=http://proxy"}},
		{"--label-file labels -l y=flag -l z img", func(s *container.Spec) any { return s.Labels }, map[string]string{"x": "file", "y": "flag", "z": ""}},
		{"-w /a/../b img", func(s *container.Spec) any { return s.Process.Dir }, "/b"},
		{"--umask 027 img", func(s *container.Spec) any { return s.Process.Umask }, &umask},
		{"--oom-score-adj -5 img", func(s *container.Spec) any { return s.Process.OOMScoreAdj }, &score},
		{"--pids-limit -1 img", func(s *container.Spec) any { return s.Resources.PidsLimit }, &pids},
		{"-it img", func(s *container.Spec) any { return []bool{s.Process.Stdin, s.Process.TTY} }, []bool{true, true}},
		{"-v ./:/mnt img", func(s *container.Spec) any { return s.Rootfs.Mounts }, []container.Mount{{Type: "bind", Source: dir, Target: "/mnt"}}},
		{"--shm-size 1m img", func(s *container.Spec) any { return s.Rootfs.ShmSize }, int64(1 << 20)},
		{"--read-only --read-only-tmpfs=false img", func(s *container.Spec) any { return []bool{s.Rootfs.ReadOnly, s.Rootfs.NoReadOnlyTmpfs} }, []bool{true, true}},
		{"--image-volume bind img", func(s *container.Spec) any { return s.Rootfs.ImageVolumes }, "anonymous"},
		{"--cidfile id img", func(s *container.Spec) any { return s.Lifecycle.CIDFile }, filepath.Join(dir, "id")},
		{"img", func(s *container.Spec) any { return s.Network.Mode }, "bridge"},
		{"--network pasta img", func(s *container.Spec) any { return s.Network.Mode }, "private:pasta"},
		{"--ip 10.1.2.3 --network-alias a img", func(s *container.Spec) any { return s.Network.Networks }, []container.NetworkAttachment{{Name: "moss", IPs: []string{"10.1.2.3"}, Aliases: []string{"a"}}}},
		{"-p 8080:80 img", func(s *container.Spec) any { return s.Network.Ports }, []slirp.Port{{Proto: "tcp", HostPort: 8080, ContainerPort: 80}}},
		{"--network host -p 8080:80 -P img", func(s *container.Spec) any { return len(s.Network.Ports) > 0 || s.Network.PublishAll }, false},
		{"--expose 80-81 img", func(s *container.Spec) any { return s.Network.Exposed }, []string{"80/tcp", "81/tcp"}},
		{"--uidmap 0:5:10 img", func(s *container.Spec) any {
			return [][]string{{s.Namespaces.User}, s.Namespaces.UIDMap, s.Namespaces.GIDMap}
		}, [][]string{{"map"}, {"0:5:10"}, {"0:5:10"}}},
		{"--cap-add net_admin,CAP_SYS_TIME --cap-drop all img", func(s *container.Spec) any { return [][]string{s.Security.CapAdd, s.Security.CapDrop} }, [][]string{{"NET_ADMIN", "SYS_TIME"}, {"ALL"}}},
		{"-m 64m --memory-swap -1 --cpus 1.5 img", func(s *container.Spec) any {
			return []any{s.Resources.Memory, s.Resources.MemorySwap, s.Resources.CPUs}
		}, []any{int64(64 << 20), int64(-1), 1.5}},
		{"--restart on-failure:3 img", func(s *container.Spec) any { return []any{s.Lifecycle.Restart, s.Lifecycle.RestartMax} }, []any{"on-failure", 3}},
		{"--log-opt max-size=1m --log-opt path=log img", func(s *container.Spec) any { return s.Log.Options }, map[string]string{"max-size": "1048576", "path": filepath.Join(dir, "log")}},
		{"--arch arm64 img", func(s *container.Spec) any { return strings.HasPrefix(s.Image.Platform, "linux/arm64") }, true},
		{"--rootfs . cmd", func(s *container.Spec) any { return []any{s.Rootfs.Path, s.Image.Name, s.Process.Command} }, []any{dir, "", []string{"cmd"}}},
	} {
		spec, err := specOf(t, strings.Fields(c.line)...)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if got := c.get(spec); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %#v, want %#v", c.line, got, c.want)
		}
	}
}
