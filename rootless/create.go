package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/oci"
	"moss/slirp"
	"moss/storage/image"
	"moss/userns"
)

// CreateOptions go beside the Spec.
type CreateOptions struct {
	Pull      string // always, missing ("" too), never, newer
	Replace   bool   // remove a container of the same name first
	Quiet     bool   // no progress of a pull
	TLSVerify *bool
	AuthFile  string
	Creds     string // USER[:PASSWORD]
	CertDir   string
	// Preserve are the descriptors that a container that is started at once inherits
	// from 3 on; nil is none.
	Preserve []*os.File
	// Retries and RetryDelay are as in image.PullRequest.
	Retries    int
	RetryDelay time.Duration
	Env        []string // NAME=value, below the image's
	ImageUser  bool     // the image's user, with keep-id too
}

// Create resolves the image (pulling it by opts.Pull), completes spec and
// reserves ID and name. Nothing is left behind if it fails.
func (e *Engine) Create(ctx context.Context, spec *container.Spec, opts CreateOptions) (c *container.Container, err error) {
	return e.create(ctx, spec, opts, nil)
}

// create calls reserved, if it is set, when the Spec is complete and its ID and
// name are the container's, and nothing else is made yet. The caller then has to
// sync the record.
func (e *Engine) create(ctx context.Context, spec *container.Spec, opts CreateOptions, reserved func(*container.Container) error) (c *container.Container, err error) {
	if spec.Name != "" {
		if err := CheckName(spec.Name); err != nil {
			return nil, err
		}
	}
	var img *image.Image
	if spec.Rootfs.Path == "" {
		if img, err = e.resolve(ctx, spec.Image.Name, spec.Image.Platform, opts); err != nil {
			return nil, err
		}
	}
	if err := e.decide(ctx, spec, img, opts, reserved != nil); err != nil {
		return nil, err
	}
	if opts.Replace && spec.Name != "" {
		if err := e.replace(ctx, spec.Name); err != nil {
			return nil, err
		}
	}

	var undo rollback
	defer undo.onError(&err)
	hold, err := e.reserve(spec, &undo)
	if err != nil {
		return nil, fmt.Errorf("cannot create container: %w", err)
	}
	defer hold.Close()
	if reserved != nil {
		if err := reserved(e.container(spec)); err != nil {
			return nil, err
		}
	}
	if err := e.makeVolumes(spec, &undo); err != nil {
		return nil, fmt.Errorf("cannot create container %q: %w", spec.Name, err)
	}
	if err := e.makeDir(ctx, spec, img, reserved == nil, &undo); err != nil {
		return nil, fmt.Errorf("cannot create container %q: %w", spec.Name, err)
	}
	if err := writeCIDFile(spec, &undo); err != nil {
		return nil, err
	}
	c = e.container(spec)
	e.note(c, event.Create)
	return c, nil
}

// decide gives spec an ID, that of the monitor that stands by if there may be one,
// completes it by image and configuration, and checks it. Nothing is made yet.
func (e *Engine) decide(ctx context.Context, spec *container.Spec, img *image.Image, opts CreateOptions, ahead bool) error {
	spec.Security.NoNewPrivileges = spec.Security.NoNewPrivileges || e.Config.Bool("moss.no_new_privileges", false)
	spec.Version, spec.ID, spec.Created = container.SpecVersion, "", time.Now()
	if ahead {
		spec.ID = e.Ahead.NewID()
	}
	if spec.ID == "" {
		spec.ID = newID()
	}
	if err := labelled(spec); err != nil {
		return err
	}
	if err := e.completeMounts(ctx, spec, img); err != nil {
		return err
	}
	if err := e.complete(spec, img, opts); err != nil {
		return err
	}
	if err := fixSubIDs(spec); err != nil {
		return err
	}
	if err := e.fixRequires(spec); err != nil {
		return err
	}
	if err := e.check(ctx, spec); err != nil {
		return err
	}
	if err := e.fixAuto(spec); err != nil {
		return err
	}
	if err := e.fixJoins(spec); err != nil {
		return fmt.Errorf("cannot create container: %w", err)
	}
	return nil
}

func (e *Engine) container(spec *container.Spec) *container.Container {
	return &container.Container{Spec: *spec, Dir: e.Paths.Container(spec.ID), RunDir: e.Paths.RunContainer(spec.ID)}
}

func (e *Engine) replace(ctx context.Context, name string) error {
	id, err := os.ReadFile(e.Paths.Name(name))
	if err != nil {
		return nil // the name is free
	}
	old, err := e.Find(string(id))
	if err != nil {
		return nil // a stale reservation, which reserve takes over
	}
	return e.Remove(ctx, old, RemoveOptions{Force: true, Volumes: true})
}

// reserve takes the name, or finds a free one.
func (e *Engine) reserve(spec *container.Spec, undo *rollback) (hold *os.File, err error) {
	if spec.Name != "" {
		if hold, err = e.reserveName(spec.Name, spec.ID); err != nil {
			return nil, err
		}
	}
	for tries := 0; spec.Name == ""; tries++ {
		name := randomName()
		if tries > 20 {
			name += strconv.Itoa(tries) + spec.ID[:4]
		}
		var inUse *NameInUseError
		if hold, err = e.reserveName(name, spec.ID); err == nil {
			spec.Name = name
		} else if !errors.As(err, &inUse) {
			return nil, err
		}
	}
	undo.add(func() error { return os.Remove(e.Paths.Name(spec.Name)) })
	return hold, nil
}

// complete fills in what the user left to the image and to the defaults.
func (e *Engine) complete(spec *container.Spec, img *image.Image, opts CreateOptions) error {
	var config image.Config
	if img != nil {
		config = img.Config
		spec.Image.ID, spec.Image.Digest = img.ID, img.Digest
	}
	p := &spec.Process
	switch {
	case p.Entrypoint != nil:
		p.Args = append(slices.Clone(p.Entrypoint), p.Command...)
	case p.Command != nil:
		p.Args = append(slices.Clone(config.Entrypoint), p.Command...)
	default:
		p.Args = append(slices.Clone(config.Entrypoint), config.Cmd...)
	}
	if len(p.Args) == 0 {
		return fmt.Errorf("cannot create container: no command given, and image %q has none", spec.Image.Name)
	}
	if p.Dir == "" {
		p.Dir, p.MakeDir = config.WorkingDir, true
	}
	if p.Dir == "" {
		p.Dir = "/"
	}
	if err := chooseAs(spec, img); err != nil {
		return err
	}
	if p.User == "" && !opts.ImageUser {
		p.User = keepUser(spec.Namespaces.User)
	}
	if p.User == "" {
		p.User = config.User
	}
	if spec.Lifecycle.StopSignal == "" {
		spec.Lifecycle.StopSignal = config.StopSignal
	}
	if spec.Network.Hostname == "" && (spec.Namespaces.UTS == "" || spec.Namespaces.UTS == "private") {
		spec.Network.Hostname = e.hostname(spec)
	}
	if err := imageSeccomp(spec, config.Labels); err != nil {
		return err
	}
	chooseSystemd(spec)
	p.Env = environment(spec, opts.Env, config.Env)
	spec.Labels = merge(config.Labels, spec.Labels)
	if spec.Network.Mode == "" {
		spec.Network.Mode = "bridge"
	}
	for port := range config.ExposedPorts {
		if !slices.Contains(spec.Network.Exposed, port) {
			spec.Network.Exposed = append(spec.Network.Exposed, port)
		}
	}
	slices.Sort(spec.Network.Exposed)
	if spec.Network.PublishAll {
		if err := publishAll(spec); err != nil {
			return err
		}
	}
	if err := checkWake(spec); err != nil {
		return err
	}
	imageVolumes(spec, config)
	if err := e.completeNetwork(spec); err != nil {
		return err
	}
	return completeHealth(spec, config.Healthcheck)
}

// keepUser is the user of keep-id: the caller's own, or the one that was given.
func keepUser(mode string) string {
	rest, ok := strings.CutPrefix(mode, "keep-id")
	if !ok {
		return ""
	}
	self, err := userns.Self()
	if err != nil {
		return ""
	}
	uid, gid := strconv.Itoa(self.UID), strconv.Itoa(self.GID)
	for option := range strings.SplitSeq(strings.TrimPrefix(rest, ":"), ",") {
		if v, ok := strings.CutPrefix(option, "uid="); ok {
			uid = v
		}
		if v, ok := strings.CutPrefix(option, "gid="); ok {
			gid = v
		}
	}
	return uid + ":" + gid
}

// defaultPath is where programs are looked for if the image does not say.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environment lays the user's variables over the image's over the configured ones
// over moss's own.
func environment(spec *container.Spec, configured, imageEnv []string) []string {
	own := []string{defaultPath, "container=oci"}
	if spec.Process.TTY {
		own = append(own, "TERM=xterm")
	}
	if spec.Network.Hostname != "" {
		own = append(own, "HOSTNAME="+spec.Network.Hostname)
	}
	unset := func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(spec.Process.UnsetEnv, name)
	}
	base := override(own, configured, imageEnv)
	for _, kv := range spec.Process.EnvMerge {
		name, value, _ := strings.Cut(kv, "=")
		base = override(base, []string{name + "=" + os.Expand(value, func(name string) string { return variable(base, name) })})
	}
	if base = slices.DeleteFunc(base, unset); spec.Process.UnsetEnvAll {
		base = nil
	}
	if spec.Process.Systemd && variable(spec.Process.Env, "container_uuid") == "" {
		base = override(base, []string{"container_uuid=" + uuid(spec.ID)})
	}
	return override(base, spec.Process.Env)
}

// override lays lists of variables over each other; a name keeps its first place.
func override(lists ...[]string) []string {
	at := map[string]int{}
	var out []string
	for _, list := range lists {
		for _, kv := range list {
			name, _, _ := strings.Cut(kv, "=")
			if i, ok := at[name]; ok {
				out[i] = kv
				continue
			}
			at[name] = len(out)
			out = append(out, kv)
		}
	}
	return out
}

func merge(under, over map[string]string) map[string]string {
	if len(under)+len(over) == 0 {
		return nil
	}
	out := map[string]string{}
	for _, m := range []map[string]string{under, over} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// publishAll publishes each exposed port that is not published yet.
func publishAll(spec *container.Spec) error {
	for _, exposed := range spec.Network.Exposed {
		number, proto, ok := strings.Cut(exposed, "/")
		if !ok {
			proto = "tcp"
		}
		first, last, isRange := strings.Cut(number, "-")
		from, err := strconv.ParseUint(first, 10, 16)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || from == 0 || to < from {
			return fmt.Errorf("cannot publish exposed port %q: not a port", exposed)
		}
		for n := from; n <= to; n++ {
			published := slices.ContainsFunc(spec.Network.Ports, func(p slirp.Port) bool {
				return p.Proto == proto && uint64(p.ContainerPort) <= n && n < uint64(p.ContainerPort)+uint64(max(p.Count, 1))
			})
			if !published {
				spec.Network.Ports = append(spec.Network.Ports, slirp.Port{Proto: proto, ContainerPort: uint16(n)})
			}
		}
	}
	return nil
}

// check refuses, before anything is made, what could never start.
func (e *Engine) check(ctx context.Context, spec *container.Spec) error {
	kernel, err := oci.KernelCapabilities()
	if err != nil {
		return err
	}
	if _, _, err := oci.Capabilities(spec, kernel); err != nil {
		return err
	}
	if spec.Rootfs.Path != "" {
		if info, err := os.Stat(spec.Rootfs.Path); err != nil || !info.IsDir() {
			return fmt.Errorf("cannot use root filesystem %q: it is not a directory", spec.Rootfs.Path)
		}
	}
	if err := checkLog(spec); err != nil {
		return err
	}
	for _, m := range spec.Rootfs.Mounts {
		if m.Type == "bind" {
			if _, err := os.Lstat(m.Source); err != nil {
				return fmt.Errorf("cannot mount %q: %w", m.Source, err)
			}
		}
	}
	for _, n := range spec.Network.Networks {
		if spec.Network.Mode != "bridge" || n.Name == "moss" { // which is made when it is wanted
			continue
		}
		if err := e.AdoptNetwork(n.Name); err != nil {
			return err
		}
	}
	if _, err := e.joins(spec); err != nil {
		return err
	}
	if _, err := e.mapping(spec); err != nil {
		return err
	}
	if _, err := e.cdi(ctx, spec); err != nil {
		return err
	}
	if _, err := hooks(spec); err != nil {
		return err
	}
	_, err = e.limits(ctx, spec)
	return err
}

// makeDir makes the record's directory: the layer first, spec.json last, so that
// a directory with spec.json is whole. With sync it survives a power failure, but
// for --rm, which is not meant to.
func (e *Engine) makeDir(ctx context.Context, spec *container.Spec, img *image.Image, sync bool, undo *rollback) error {
	dir := e.Paths.Container(spec.ID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	undo.add(func() error { return os.RemoveAll(dir) })
	if spec.Log.Dir != "" {
		logs := filepath.Join(spec.Log.Dir, spec.ID)
		if err := os.MkdirAll(logs, 0o700); err != nil {
			return err
		}
		undo.add(func() error { return os.Remove(logs) })
	}
	if spec.Rootfs.Path == "" {
		if err := e.makeLayer(ctx, spec, img, dir); err != nil {
			return err
		}
	}
	if err := e.copySecrets(spec, dir); err != nil {
		return err
	}
	return record.Write(filepath.Join(dir, container.SpecFile), spec, sync && !spec.Lifecycle.AutoRemove)
}

// makeLayer makes the upper and work directories. The merged root directory
// shows the upper's owner and mode, so they are those of the image's.
func (e *Engine) makeLayer(ctx context.Context, spec *container.Spec, img *image.Image, dir string) error {
	root, err := e.rootOwner(ctx, spec, img)
	if err != nil {
		return err
	}
	upper := filepath.Join(dir, "upper")
	for _, d := range []string{upper, filepath.Join(dir, "work")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	if err := os.Chown(upper, int(root.Uid), int(root.Gid)); err != nil {
		return err
	}
	return os.Chmod(upper, os.FileMode(root.Mode&0o777))
}

func writeCIDFile(spec *container.Spec, undo *rollback) error {
	path := spec.Lifecycle.CIDFile
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write --cidfile %q: %w", path, err)
	}
	undo.add(func() error { return os.Remove(path) })
	_, err = f.WriteString(spec.ID)
	return errors.Join(err, f.Close())
}
