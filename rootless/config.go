package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"moss/config"
	"moss/record"
	"moss/rootless/container"
	"moss/slirp"
	"moss/storage/image"
	"moss/userns/slack"
)

// Config is what the configuration files set. If none has changed since moss last
// looked, that is known from the run directory.
func Config(ctx context.Context, run string) (*config.Config, error) {
	return config.Load(config.Here(), run, func() (*config.Record, error) { return ReadConfig(ctx, run) })
}

// ReadConfig has the configuration files read, whether they have changed or not.
func ReadConfig(ctx context.Context, run string) (*config.Record, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, Helper("moss-image"), "config", run)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := slack.Exactly(cmd.Run); err != nil {
		if message := strings.TrimPrefix(strings.TrimSpace(errs.String()), "moss: "); message != "" {
			return nil, errors.New(message)
		}
		return nil, fmt.Errorf("cannot read configuration: moss-image: %w", err)
	}
	r := new(config.Record)
	if err := record.Decode(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	return r, nil
}

// configure completes a request by what the configuration files set.
func (e *Engine) configure(req *image.Request) {
	req.Root, req.Run, req.Events = e.Paths.Root, e.Paths.Run, string(e.Events())
	parallel := int(e.Config.Int("engine.image_parallel_copies", 0))
	switch {
	case req.Pull != nil:
		req.Pull.Parallel = parallel
		req.Pull.Stall = time.Duration(e.Config.Int("moss.stall_timeout", 0)) * time.Second
	case req.Push != nil:
		req.Push.Parallel = parallel
	}
}

// completeNetwork fills in what the configuration says of networks.
func (e *Engine) completeNetwork(spec *container.Spec) (err error) {
	if err := e.defaultNetwork(spec); err != nil {
		return err
	}
	spec.Network.Ports, err = e.onHost(spec.Network.Ports)
	return err
}

// defaultNetwork makes the default network where its range is configured: else
// moss-net makes it, with one that is free.
func (e *Engine) defaultNetwork(spec *container.Spec) error {
	s := e.Config.Find("network.default_subnet")
	if s == nil || spec.Network.Mode != "bridge" {
		return nil
	}
	v4, err := netip.ParsePrefix(s.Values[0])
	if err == nil && (!v4.Addr().Is4() || v4.Bits() > 29 || v4.Bits() < 8) {
		err = errors.New("want a range of IPv4 addresses from /8 to /29")
	}
	if err != nil {
		return s.Wrong(s.Values[0], err)
	}
	_, err = slirp.DefaultIn(e.slirpDirs(), v4.Masked())
	return err
}

// onHost gives ports without an address of the host the configured ones.
func (e *Engine) onHost(ports []slirp.Port) ([]slirp.Port, error) {
	s := e.Config.Find("network.default_host_ips")
	if s == nil || len(s.Values) == 0 {
		return ports, nil
	}
	var out []slirp.Port
	for _, p := range ports {
		if p.HostIP.IsValid() {
			out = append(out, p)
			continue
		}
		for _, v := range s.Values {
			ip, err := netip.ParseAddr(v)
			if err != nil {
				return nil, s.Wrong(v, errors.New("it is not an IP address"))
			}
			p.HostIP = ip
			out = append(out, p)
		}
	}
	return out, nil
}

// hostname is the one of a container for which none was asked: its ID, or its name
// where that is configured.
func (e *Engine) hostname(spec *container.Spec) string {
	if e.Config.Bool("containers.container_name_as_hostname", false) {
		for spec.Name == "" {
			name := randomName()
			if _, err := os.Lstat(e.Paths.Name(name)); err != nil {
				spec.Name = name
			}
		}
		valid := func(c rune) rune {
			if c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
				return c
			}
			return -1
		}
		if name := strings.Trim(strings.Map(valid, spec.Name), "-."); name != "" {
			return name[:min(len(name), 63)]
		}
	}
	return spec.ID[:12]
}
