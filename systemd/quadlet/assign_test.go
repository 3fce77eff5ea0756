package quadlet

import "testing"

// TestAssignment: a flag becomes the key that makes it again, whatever is in its value.
func TestAssignment(t *testing.T) {
	for _, c := range []struct {
		flag, value string
		isSwitch    bool
		want        string
	}{
		{"--publish", "80:80", false, "PublishPort=80:80"},
		{"--env", "A=two words", false, `Environment="A=two words"`},
		{"--env", "P=100% $HOME", false, `Environment="P=100%% $$HOME"`},
		{"--volume", "/srv:/srv:ro", false, "Volume=/srv:/srv:ro"},
		{"--volume", "odd.volume:/srv", false, "PodmanArgs=--volume=odd.volume:/srv"},
		{"--read-only", "", true, "ReadOnly=true"},
		{"--read-only", "false", true, "ReadOnly=false"},
		{"--health-cmd", "curl -f 'http://x'", false, "HealthCmd=curl -f 'http://x'"},
		{"--cap-add", "NET_ADMIN", false, "AddCapability=NET_ADMIN"},
		{"--security-opt", "no-new-privileges", false, "NoNewPrivileges=true"},
		{"--security-opt", "seccomp=/a b.json", false, "SeccompProfile=/a b.json"},
		{"--security-opt", "label=type:x", false, "SecurityLabelType=x"},
		{"--entrypoint", `["a", "b"]`, false, `Entrypoint=["a", "b"]`},
		{"--label", "a=\"q\"", false, `Label="a=\"q\""`},
		{"--label", "two\nlines=1", false, `Label="two\nlines=1"`},
		{"--userns", "keep-id:uid=5", false, "UserNS=keep-id:uid=5"},
		{"--cpus", "1.5", false, "PodmanArgs=--cpus=1.5"},
		{"--no-hosts", "", true, "PodmanArgs=--no-hosts"},
		{"--mount", "type=tmpfs,dst=/x", false, "Mount=type=tmpfs,dst=/x"},
	} {
		if got := Assignment(c.flag, c.value, c.isSwitch); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.flag, c.value, got, c.want)
		}
	}
}
