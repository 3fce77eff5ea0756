package rootless

import (
	"testing"

	"moss/rootless/container"
)

// All conditions of a hook that are given must hold, and one at least.
func TestHookConditions(t *testing.T) {
	yes, no := true, false
	spec := &container.Spec{
		Process:     container.Process{Args: []string{"/bin/echo"}},
		Annotations: map[string]string{"org.example": "on"},
		Rootfs:      container.Rootfs{Mounts: []container.Mount{{Type: "bind"}}},
	}
	for name, c := range map[string]struct {
		when hookWhen
		want bool
	}{
		"nothing":           {hookWhen{}, false},
		"always":            {hookWhen{Always: &yes}, true},
		"never":             {hookWhen{Always: &no, Commands: []string{"echo"}}, false},
		"command":           {hookWhen{Commands: []string{"^cat$", "/echo$"}}, true},
		"other command":     {hookWhen{Always: &yes, Commands: []string{"^echo$"}}, false},
		"annotation":        {hookWhen{Annotations: map[string]string{"^org": "^on$"}}, true},
		"other value":       {hookWhen{Annotations: map[string]string{"^org": "off"}}, false},
		"bind mounts":       {hookWhen{HasBindMounts: &yes}, true},
		"no bind mounts":    {hookWhen{HasBindMounts: &no}, false},
		"command and value": {hookWhen{Commands: []string{"echo"}, Annotations: map[string]string{"x": "y"}}, false},
	} {
		if got, err := c.when.met(spec); got != c.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, err := (&hookWhen{Commands: []string{"("}}).met(spec); err == nil {
		t.Error("a pattern that is none: no error")
	}
}
