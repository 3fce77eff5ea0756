package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless"
	"moss/rootless/container"
	"moss/rootless/runtime/birth"
	"moss/slirp"
)

func TestFilters(t *testing.T) {
	now := time.Now()
	r := &row{&container.Container{Spec: container.Spec{
		ID: strings.Repeat("ab", 32), Name: "web-1", Created: now, Labels: map[string]string{"colour": "red", "empty": ""},
		Image:   container.Image{Name: "img", ID: "1234"},
		Network: container.Network{Mode: "bridge"},
		Rootfs:  container.Rootfs{Mounts: []container.Mount{{Type: "volume", Source: "data", Target: "/d"}}},
	}}, container.View{Status: container.StatusExited, Last: &container.Last{ExitCode: 3}}}
	for line, want := range map[string]bool{
		"": true, "id=abab": true, "id=ABAB": true, "id=cd": false, "name=web": true, "name=^web-[0-9]$": true, "name=^eb": false,
		"label=colour": true, "label=colour=red": true, "label=colour=blue": false, "label=col*": true, "label=none": false,
		"label!=none": true, "label!=colour": false, "status=exited": true, "status=stopped": true, "status=running": false,
		"status=running status=exited": true, "exited=3": true, "exited=0": false, "volume=data": true, "volume=/d": true,
		"volume=x": false, "network=moss": true, "network=other": false, "ancestor=img": true, "ancestor=other": false,
		"label=colour=red label=empty": true, "label=colour=red label=none": false, "name=web status=running": false,
	} {
		f, err := parseFilters("filter", strings.Fields(line), containerFilters)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if got := f.matches(r, moments{}, nil); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
	if (filters{}).matches(r, moments{before: now}, nil) || !(filters{}).matches(r, moments{before: now.Add(time.Second), since: now.Add(-time.Second)}, nil) {
		t.Error("before or since is wrong")
	}
	for _, bad := range []string{"nonsense=1", "name", "name=", "status=x", "exited=x", "name=(", "until=x"} {
		if _, err := parseFilters("filter", []string{bad}, containerFilters); err == nil || !strings.Contains(err.Error(), "--filter") {
			t.Errorf("%q: %v; want an error that names the flag", bad, err)
		}
	}
}

// ps says it in podman's words.
func TestPsRow(t *testing.T) {
	now := time.Now()
	spec := container.Spec{ID: strings.Repeat("0", 64), Name: "n", Created: now.Add(-2 * time.Hour),
		Image:   container.Image{Name: "docker.io/library/nginx"},
		Process: container.Process{Entrypoint: []string{"/entry"}, Args: []string{"/entry", "nginx", "-g", "daemon off;"}},
		Network: container.Network{Exposed: []string{"443/tcp", "80/tcp"}, Ports: []slirp.Port{{Proto: "tcp", HostPort: 8080, ContainerPort: 80}}}}
	for _, c := range []struct {
		view container.View
		want string
	}{
		{container.View{Status: container.StatusCreated}, "Created"},
		{container.View{Status: container.StatusRunning, Live: &container.Live{Started: now.Add(-3 * time.Second)}}, "Up 3 seconds"},
		{container.View{Status: container.StatusPaused, Live: &container.Live{}}, "Paused"},
		{container.View{Status: container.StatusExited, Last: &container.Last{ExitCode: 1, Finished: now.Add(-2 * time.Minute)}}, "Exited (1) 2 minutes ago"},
		{container.View{Status: container.StatusExited, Last: &container.Last{ExitCode: container.ExitUnknown}}, "Exited (-1)"},
	} {
		r := psRow{row: &row{&container.Container{Spec: spec}, c.view}, images: &imageCache{}}
		if got := r.Status(); got != c.want {
			t.Errorf("status %q, want %q", got, c.want)
		}
	}
	r := psRow{row: &row{&container.Container{Spec: spec}, container.View{Status: container.StatusCreated}}, images: &imageCache{}}
	for got, want := range map[string]string{
		r.ID():         "000000000000",
		r.Image():      "docker.io/library/nginx:latest",
		r.Command():    "nginx -g daemon o...",
		r.RunningFor(): "2 hours ago",
		r.Ports():      "0.0.0.0:8080->80/tcp, 443/tcp",
		r.Networks():   "",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	missing := fmt.Errorf("cannot find container %q: %w", "x", errdefs.ErrNotFound)
	other := errors.New("other")
	for _, c := range []struct {
		err  error
		code int
	}{
		{nil, 0}, {other, 125}, {missing, 125}, {notThere(missing), 1}, {notThere(errors.Join(missing, other)), 125}, {notThere(nil), 0},
		{exitWith(0), 0}, {exitWith(7), 7}, {fmt.Errorf("x: %w", exitWith(137)), 137}, {rootless.ErrDetached, 0},
		{fmt.Errorf("x: %w", &birth.InitError{Code: 127}), 127}, {&rootless.HelperError{Code: 2}, 2},
		{removalError([]error{fmt.Errorf("x: %w", errdefs.ErrFailedPrecondition)}), 2}, {removalError([]error{missing}), 1},
	} {
		if got := exitCode(c.err); got != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.code)
		}
	}
}

// Each of several errors has its line, and its kind is not told twice.
func TestReport(t *testing.T) {
	var b strings.Builder
	c := &call{Err: &b}
	code := c.report(errors.Join(
		fmt.Errorf("cannot find container %q: no container with that name or ID: %w", "x", errdefs.ErrNotFound),
		&hintedError{errors.New("second"), "try again"},
		exitWith(3),
	))
	want := "moss: cannot find container \"x\": no container with that name or ID\nhint: 'moss ps --all' lists the containers\nmoss: second\nhint: try again\n"
	if b.String() != want || code != 3 {
		t.Errorf("%d\n%s", code, b.String())
	}
}
