package syntax

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"moss/rootless/container"
)

func TestNetworks(t *testing.T) {
	type attachments = []container.NetworkAttachment
	for _, c := range []struct {
		in   []string
		mode string
		list attachments
	}{
		{nil, "", nil},
		{[]string{"none"}, "none", nil},
		{[]string{"host"}, "host", nil},
		{[]string{"private"}, "private", nil},
		{[]string{"private:embedded"}, "private:embedded", nil},
		{[]string{"pasta"}, "private:pasta", nil},
		{[]string{"pasta:-T,5"}, "private:pasta,-T,5", nil},
		{[]string{"slirp4netns"}, "private:slirp4netns", nil},
		{[]string{"container:web"}, "container:web", nil},
		{[]string{"ns:/proc/1/ns/net"}, "ns:/proc/1/ns/net", nil},
		{[]string{"bridge"}, "bridge", attachments{{Name: "moss"}}},
		{[]string{"a", "b"}, "bridge", attachments{{Name: "a"}, {Name: "b"}}},
		{[]string{"a:ip=10.0.0.5,ip6=fd00::5,mac=92:d0:c6:0a:29:33,alias=x,alias=y,interface_name=lan0"}, "bridge", attachments{{
			Name: "a", IPs: []string{"10.0.0.5", "fd00::5"}, MAC: "92:d0:c6:0a:29:33", Aliases: []string{"x", "y"}, Interface: "lan0",
		}}},
	} {
		mode, list, err := Networks(c.in)
		if err != nil || mode != c.mode || !reflect.DeepEqual(list, c.list) {
			t.Errorf("Networks(%q) = %q, %+v, %v", c.in, mode, list, err)
		}
	}
	for _, in := range [][]string{
		{""}, {"none", "host"}, {"a", "host"}, {"host", "a"}, {"a", "a"}, {"none:x"}, {"private:x"}, {"pasta:--netns,x"}, {"slirp4netns:x=y"},
		{"container:"}, {"ns:rel"}, {"a b"}, {"a:ip=x"}, {"a:mac=x"}, {"a:mac=01:00:5e:00:00:01"}, {"a:color=red"}, {"a:ip="},
		{"a:interface_name=much-too-long-name"}, {"-a"},
	} {
		if mode, list, err := Networks(in); err == nil {
			t.Errorf("Networks(%q) = %q, %+v; want an error", in, mode, list)
		}
	}
}

func TestAddHost(t *testing.T) {
	for in, want := range map[string][]string{
		"a:1.2.3.4": {"a:1.2.3.4"}, "a;b:1.2.3.4": {"a:1.2.3.4", "b:1.2.3.4"}, "a:::1": {"a:::1"}, "a:[::1]": {"a:::1"},
		"a:host-gateway": {"a:host-gateway"},
	} {
		if got, err := AddHost(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("AddHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "a", ":1.2.3.4", "a:", "a:x", "a b:1.2.3.4", "a;:1.2.3.4"} {
		if got, err := AddHost(in); err == nil {
			t.Errorf("AddHost(%q) = %q; want an error", in, got)
		}
	}
}

func TestSecurityOption(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "p.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]container.Security{
		"no-new-privileges":          {NoNewPrivileges: true},
		"no-new-privileges:true":     {NoNewPrivileges: true},
		"no-new-privileges=false":    {},
		"seccomp=unconfined":         {Seccomp: "unconfined"},
		"seccomp:unconfined":         {Seccomp: "unconfined"},
		"seccomp=p.json":             {Seccomp: filepath.Join(dir, "p.json")},
		"apparmor=mine":              {AppArmor: "mine"},
		"label=disable":              {Label: []string{"disable"}},
		"label=type:spc_t":           {Label: []string{"type:spc_t"}},
		"label=level:s0:c1,c2":       {Label: []string{"level:s0:c1,c2"}},
		"mask=/a:/b":                 {Mask: []string{"/a", "/b"}},
		"unmask=ALL":                 {Unmask: []string{"ALL"}},
		"unmask=/proc/a:/sys/*":      {Unmask: []string{"/proc/a", "/sys/*"}},
		"systempaths=unconfined":     {Unmask: []string{"ALL"}},
		"proc-opts=hidepid=2,nosuid": {ProcOpts: []string{"hidepid=2", "nosuid"}},
	} {
		var got container.Security
		if err := SecurityOption(in, &got, dir); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("SecurityOption(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "nonsense", "nonsense=1", "no-new-privileges=maybe", "seccomp", "seccomp=", "seccomp=/no/such", "seccomp=" + dir,
		"label=colour:red", "mask=rel", "unmask=rel", "proc-opts=nonsense", "proc-opts=hidepid", "systempaths=all",
	} {
		if err := SecurityOption(in, &container.Security{}, dir); err == nil {
			t.Errorf("SecurityOption(%q): no error", in)
		}
	}
}

func TestNamesOfIsolation(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"Namespace", func(s string) error { return Namespace(s, "none") },
			[]string{"private", "host", "none", "container:a", "ns:/x"}, []string{"", "x", "container:", "ns:x", "shareable"}},
		{"UserNamespace", UserNamespace,
			[]string{"host", "keep-id", "keep-id:uid=1,gid=2", "keep-id:size=5", "nomap", "auto", "auto:size=10", "container:a", "ns:/x"},
			[]string{"x", "keep-id:colour=1", "auto:uid=1", "auto:size=0", "keep-id:uid=x", "nomap:uid=1", "container:", "ns:x"}},
		{"IDMap", func(s string) error { _, err := IDMap(s); return err },
			[]string{"0:1:10", "0:1"}, []string{"", "0", "0:1:0", "a:b:c", "0:1:2:3", "+0:1", "0:@1000"}},
		{"Capability", func(s string) error { _, err := Capability(s); return err },
			[]string{"NET_ADMIN", "cap_net_admin", "ALL", "all"}, []string{"", "NONSENSE", "CAP_"}},
		{"Sysctl", func(s string) error { _, _, _, err := Sysctl(s); return err },
			[]string{"net.ipv4.ip_forward=1", "kernel.shmmax=1", "fs.mqueue.msg_max=1", "kernel.domainname=x"},
			[]string{"", "net.x", "vm.swappiness=1", "kernel.panic=1", "=1"}},
		{"Device", Device, []string{"/dev/null", "/dev/null:/dev/x", "/dev/null:rw", "/dev/null:/dev/x:rwm"},
			[]string{"", "null", "/dev/no-such", "/dev/null:x", "/dev/null:/dev/x:q", "/dev/null:/a:r:w", "vendor.com/gpu=0"}},
		{"CPUSet", CPUSet, []string{"0", "0-3", "0,2-3"}, []string{"", "x", "3-0", "0-", "0,,1"}},
		{"Umask", func(s string) error { _, err := Umask(s); return err }, []string{"0022", "77", "0"}, []string{"", "9", "1000", "-1"}},
		{"User", User, []string{"a", "1000", "a:b", "1:2", ":5"}, []string{"", ":", "a:", "a:b:c"}},
		{"Hostname", Hostname, []string{"a", "a.b", "a-b", "1"}, []string{"-a", "a b", "ä", string(make([]byte, 65))}},
		{"Platform", Platform, []string{"linux/amd64", "linux/arm/v7"}, []string{"", "linux", "windows/amd64", "linux//", "a/b/c/d"}},
		{"Name", Name, []string{"a", "a_b.c-d", "1"}, []string{"", "-a", "a b", "a/b", "ä"}},
	} {
		for _, in := range c.good {
			if err := c.check(in); err != nil {
				t.Errorf("%s(%q): %v", c.name, in, err)
			}
		}
		for _, in := range c.bad {
			if err := c.check(in); err == nil {
				t.Errorf("%s(%q): no error", c.name, in)
			}
		}
	}
}
