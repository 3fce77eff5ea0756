package rootless

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/tree"
	"moss/slirp"
	"moss/storage/image"
	"moss/systemd/cgroup"
)

// CommitOptions of Commit.
type CommitOptions struct {
	Name           string // of the image; "" gives it none
	Author         string
	Message        string
	Changes        []string // Containerfile instructions
	Format         string   // oci ("" too), docker
	Pause          bool     // while what it has written is read
	Squash         bool     // one layer, in place of one more
	IncludeVolumes bool     // the mounts of the container become VOLUMEs
	// Config is a JSON document laid over the configuration, before Changes.
	Config []byte
	Quiet  bool
}

// Commit makes an image of a container: its image's layers and one of what it has
// changed, with the configuration that it runs with. It returns the image's ID.
func (e *Engine) Commit(ctx context.Context, c *container.Container, o CommitOptions) (id string, err error) {
	if look := c.Look(); o.Pause && look.Status == container.StatusRunning {
		thaw, err := freezeFor(ctx, c, look)
		if err == nil {
			defer thaw()
			err = cgroup.AwaitFrozen(look.Live.Cgroup)
		}
		if err != nil {
			return "", fmt.Errorf("cannot commit container %q: it cannot be paused: %w", c.Spec.Name, err)
		}
	}
	id, err = e.commit(ctx, c, o)
	var helper *HelperError
	switch {
	case errors.As(err, &helper):
		return "", helper
	case err != nil:
		return "", fmt.Errorf("cannot commit container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Commit)
	return id, nil
}

func (e *Engine) commit(ctx context.Context, c *container.Container, o CommitOptions) (string, error) {
	if c.Spec.Rootfs.Path != "" {
		return "", fmt.Errorf("its root file system is the directory %q, not an image", c.Spec.Rootfs.Path)
	}
	img, err := e.imageOf(ctx, &c.Spec)
	if err != nil {
		return "", err
	}
	config := e.imageConfig(&c.Spec, img, o.IncludeVolumes)
	if len(o.Config) > 0 {
		if err := json.Unmarshal(o.Config, &config); err != nil {
			return "", fmt.Errorf("cannot read the configuration: %w", err)
		}
	}
	req := image.Request{Commit: &image.CommitRequest{
		Container: c.Spec.Name, Base: img.ID, Squash: o.Squash, Name: o.Name, Author: o.Author, Message: o.Message, Format: o.Format,
		CreatedBy: strings.Join(c.Spec.Process.Args, " "), Config: config, Changes: o.Changes, Quiet: o.Quiet,
	}}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	// moss-image takes the end of the stream for the end of the layer: if that
	// fails it must be gone before the pipe closes.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	layer := make(chan error, 1)
	done := make(chan struct{})
	go func() { // ends with the layer, or when moss-image ends, which closes the pipe
		err := e.writeLayer(ctx, c, o.Squash, w)
		if err == nil {
			_, err = w.WriteString(image.StreamEnd)
		}
		if err != nil {
			cancel(err)
			<-done
		}
		w.Close()
		layer <- err
	}()
	var out bytes.Buffer
	err = e.imageHelper(ctx, req, r, &out)
	close(done)
	r.Close()
	// A broken pipe is but the consequence of an end that moss-image has told of.
	if failed := <-layer; failed != nil && (err == nil || !errors.Is(failed, unix.EPIPE)) {
		return "", failed
	}
	return strings.TrimSpace(out.String()), err
}

// writeLayer writes what a container has changed, or with whole all that it has.
func (e *Engine) writeLayer(ctx context.Context, c *container.Container, whole bool, w io.Writer) error {
	ids, err := e.idsOf(&c.Spec)
	if err != nil {
		return err
	}
	options := tree.Options{Owner: containerOwner(ids)}
	if whole {
		return e.writeRoot(ctx, c, w, options)
	}
	buffered := bufio.NewWriterSize(w, 1<<20)
	archive := tree.NewWriter(ctx, buffered, options)
	err = e.changes(ctx, c, func(change tree.Change) error {
		if placeholder(&change) {
			return nil
		}
		return archive.Change(change)
	})
	if err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return buffered.Flush()
}

// placeholder says whether something is there only because moss mounts a file on
// it at the start.
func placeholder(change *tree.Change) bool {
	switch change.Path {
	case "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv":
		return change.Kind == tree.Added && change.Entry.Stat.Size == 0
	}
	return false
}

// imageConfig is what an image of the container says: its own image's
// configuration, with what the container was created with.
func (e *Engine) imageConfig(spec *container.Spec, img *image.Image, volumes bool) image.Config {
	config, p := img.Config, &spec.Process
	config.Env = ownEnvironment(spec, img.Config.Env)
	config.Labels = spec.Labels
	config.StopSignal = spec.Lifecycle.StopSignal
	if !p.MakeDir {
		config.WorkingDir = p.Dir
	}
	if p.User != keepUser(spec.Namespaces.User) {
		config.User = p.User
	}
	setCommand(&config, p)
	ports := map[string]struct{}{}
	for _, port := range spec.Network.Exposed {
		ports[port] = struct{}{}
	}
	for _, port := range spec.Network.Ports {
		for n := range max(port.Count, 1) {
			ports[fmt.Sprintf("%d/%s", port.ContainerPort+n, protocol(port))] = struct{}{}
		}
	}
	if config.ExposedPorts = ports; len(ports) == 0 {
		config.ExposedPorts = nil
	}
	config.Volumes = imageVolumesOf(spec, img.Config.Volumes, volumes)
	if h := spec.Health; h != nil {
		config.Healthcheck = &image.Healthcheck{Test: h.Test, Interval: max(h.Interval, 0), Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries}
	}
	return config
}

func protocol(port slirp.Port) string {
	if port.Proto == "" {
		return "tcp"
	}
	return port.Proto
}

// ownEnvironment leaves out what moss itself sets in every container.
func ownEnvironment(spec *container.Spec, imageEnv []string) []string {
	var out []string
	for _, kv := range spec.Process.Env {
		name, _, _ := strings.Cut(kv, "=")
		mine := kv == "container=oci" || kv == "HOSTNAME="+spec.Network.Hostname || kv == "TERM=xterm" && spec.Process.TTY ||
			name == "PATH" && kv == defaultPath
		if !mine || slices.Contains(imageEnv, kv) {
			out = append(out, kv)
		}
	}
	return out
}

// setCommand gives entry point and command the parts of what the container runs.
func setCommand(config *image.Config, p *container.Process) {
	own := append(slices.Clone(config.Entrypoint), config.Cmd...)
	switch n := len(config.Entrypoint); {
	case slices.Equal(own, p.Args):
	case p.Entrypoint != nil:
		config.Entrypoint, config.Cmd = p.Entrypoint, p.Command
	case len(p.Args) >= n && slices.Equal(config.Entrypoint, p.Args[:n]):
		config.Cmd = p.Args[n:]
	default: // the image's entry point was taken away
		config.Entrypoint, config.Cmd = nil, p.Args
	}
}

// imageVolumesOf are the image's volumes and those that the user made anonymous
// ones for; with all every mount of the container.
func imageVolumesOf(spec *container.Spec, own map[string]struct{}, all bool) map[string]struct{} {
	out := map[string]struct{}{}
	for target := range own {
		out[target] = struct{}{}
	}
	for _, m := range spec.Rootfs.Mounts {
		if m.Type == "volume" && m.Anonymous || all && (m.Type == "volume" || m.Type == "bind") {
			out[m.Target] = struct{}{}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
