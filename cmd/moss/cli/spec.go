package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
)

// specReader turns ContainerFlags into a container.Spec.
type specReader struct {
	flagValues
	f       *ContainerFlags
	spec    *container.Spec
	dir     string   // relative paths begin here
	environ []string // moss's own environment
}

// Spec is what the flags, the image and the command line after it ask for. It
// makes nothing: a wrong value is found before anything is there to undo.
func (f *ContainerFlags) Spec(args []string) (*container.Spec, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("cannot read the working directory: %w", err)
	}
	r := &specReader{
		flagValues: flagValues{grammar: reflect.TypeFor[ContainerFlags]()},
		f:          f, spec: &container.Spec{}, dir: dir, environ: os.Environ(),
	}
	r.identity(args)
	r.image(args)
	r.process(args)
	r.environment()
	r.files()
	r.network()
	r.ports()
	r.reach()
	f.WakeFlags.read(&r.flagValues, &r.spec.Network)
	r.namespaces()
	r.security()
	r.accounts()
	r.first()
	r.resources()
	r.life()
	r.defaults()
	if r.err != nil {
		return nil, r.err
	}
	return r.spec, nil
}

func (r *specReader) identity(args []string) {
	f, s := r.f, r.spec
	r.check(len(args) == 0, "an image is missing")
	r.check(f.Replace && f.Name == "", "--replace needs --name")
	r.one("name", f.Name, syntax.Name)
	s.Name = f.Name
	s.Labels, s.Annotations = map[string]string{}, map[string]string{}
	r.each("label-file", f.LabelFile, func(path string) error { return syntax.LabelFile(path, s.Labels) })
	r.each("label", f.Label, func(v string) error {
		key, value, err := syntax.KeyValue(v, true)
		s.Labels[key] = value
		return err
	})
	r.each("annotation", f.Annotation, func(v string) error {
		key, value, err := syntax.KeyValue(v, false)
		s.Annotations[key] = value
		return err
	})
	r.one("cidfile", f.Cidfile, func(path string) error {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("the file exists; is another container using it?")
		}
		var err error
		s.Lifecycle.CIDFile, err = r.writable(path)
		return err
	})
	r.one("pidfile", f.Pidfile, func(path string) (err error) {
		s.Lifecycle.PIDFile, err = r.writable(path)
		return err
	})
	if key := "engine.platform_to_oci_runtime." + f.platform(); f.conf.Find(key) != nil && !slices.Contains(f.given, "runtime") {
		r.setting(key, r.runtime)
	} else {
		r.one("runtime", f.Runtime, r.runtime)
	}
}

// writable makes path absolute and looks for its directory.
func (r *specReader) writable(path string) (string, error) {
	path = r.absolute(path)
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return "", fmt.Errorf("its directory does not exist")
	}
	return path, nil
}

func (r *specReader) absolute(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.dir, path)
}

func (r *specReader) runtime(name string) error {
	r.spec.Runtime = name
	if name == "moss-runtime" {
		return nil
	}
	if strings.Contains(name, "/") {
		if r.spec.Runtime = r.absolute(name); !isProgram(r.spec.Runtime) {
			return fmt.Errorf("it is not a program")
		}
		return nil
	}
	if path, err := configuredRuntime(r.f.conf, name); path != "" || err != nil {
		r.spec.Runtime = path
		return err
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if isProgram(filepath.Join(dir, name)) {
			return nil
		}
	}
	return fmt.Errorf("no such program in PATH")
}

func (r *specReader) image(args []string) {
	f, s := r.f, r.spec
	if len(args) > 0 {
		s.Image.Name = args[0]
		r.check(args[0] == "", "the name of the image is empty")
	}
	r.one("pull", f.Pull, oneOf("always", "missing", "never", "newer"))
	r.one("platform", f.Platform, syntax.Platform)
	r.check(f.Platform != "" && f.Arch+f.OS+f.Variant != "", "--platform cannot be combined with --arch, --os or --variant")
	s.Image.Platform = f.platform()
	r.one("os", f.OS, oneOf("linux"))
	r.one("authfile", f.Authfile, readable)
	f.PullFlags.check(&r.flagValues)
	if !f.Rootfs || len(args) == 0 {
		return
	}
	s.Rootfs.Path, s.Image.Name = r.absolute(args[0]), ""
	if info, err := os.Stat(s.Rootfs.Path); err != nil || !info.IsDir() {
		r.check(true, "root filesystem %q is not a directory", args[0])
	}
}

// platform is --platform, or what --os, --arch and --variant make of it.
func (f *ContainerFlags) platform() string {
	if f.Platform != "" || f.Arch+f.OS+f.Variant == "" {
		return f.Platform
	}
	return platformOf(f.OS, f.Arch, f.Variant)
}

func (r *specReader) process(args []string) {
	f, p := r.f, &r.spec.Process
	if f.Entrypoint != nil {
		p.Entrypoint = []string{}
		r.one("entrypoint", *f.Entrypoint, func(v string) (err error) {
			p.Entrypoint, err = syntax.Entrypoint(v)
			return err
		})
	}
	if len(args) > 1 {
		p.Command = args[1:]
	}
	p.TTY, p.Stdin, p.Init = f.TTY, f.Interactive, f.Init
	r.one("workdir", f.Workdir, func(v string) error {
		if !strings.HasPrefix(v, "/") {
			return fmt.Errorf("it is not an absolute path")
		}
		p.Dir = filepath.Clean(v)
		return nil
	})
	r.one("user", f.User, syntax.User)
	p.User = f.User
	r.each("group-add", f.GroupAdd, func(string) error { return nil })
	r.check(len(f.GroupAdd) > 1 && slices.Contains(f.GroupAdd, "keep-groups"), "--group-add keep-groups cannot be combined with other groups")
	p.Groups = f.GroupAdd
	r.one("umask", f.Umask, func(v string) error {
		mask, err := syntax.Umask(v)
		p.Umask = &mask
		return err
	})
	r.each("ulimit", f.Ulimit, func(v string) error {
		limits, err := syntax.Ulimit(v)
		p.Rlimits = append(p.Rlimits, limits...)
		return err
	})
	if p.OOMScoreAdj = f.OOMScore; p.OOMScoreAdj != nil {
		r.one("oom-score-adj", strconv.Itoa(*f.OOMScore), func(string) error {
			if n := *f.OOMScore; n < -1000 || n > 1000 {
				return fmt.Errorf("it is not between -1000 and 1000")
			}
			return nil
		})
	}
}

// proxyNames are the variables that --http-proxy passes on, in both cases.
var proxyNames = [...]string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy"}

func (r *specReader) environment() {
	f, p := r.f, &r.spec.Process
	r.each("unsetenv", f.UnsetEnv, func(name string) error {
		if strings.Contains(name, "=") {
			return fmt.Errorf("want a name, without a value")
		}
		return nil
	})
	p.UnsetEnv, p.UnsetEnvAll = f.UnsetEnv, f.UnsetEnvAll
	r.each("env-merge", f.EnvMerge, func(v string) error {
		_, _, err := syntax.KeyValue(v, false)
		return err
	})
	p.EnvMerge = f.EnvMerge
	if f.EnvHost {
		p.Env = append(p.Env, r.environ...)
	}
	if f.HTTPProxy == nil || *f.HTTPProxy {
		for _, name := range proxyNames {
			for _, n := range [...]string{name, strings.ToUpper(name)} {
				kv, _ := syntax.Environment(n, r.environ)
				p.Env = append(p.Env, kv...)
			}
		}
	}
	r.each("env-file", f.EnvFile, func(path string) error {
		kv, err := syntax.EnvironmentFile(path, r.environ)
		p.Env = append(p.Env, kv...)
		return err
	})
	for _, v := range f.Env {
		r.one("env", v, func(v string) error {
			kv, err := syntax.Environment(v, r.environ)
			p.Env = append(p.Env, kv...)
			return err
		})
	}
}

func (r *specReader) resources() {
	res := &r.spec.Resources
	r.f.LimitFlags.read(&r.flagValues, res)
	r.f.CgroupFlags.read(&r.flagValues, res)
	r.check(r.f.Cgroups == "disabled" && r.f.Cgroupns != "" && r.f.Cgroupns != "host", "--cgroups disabled cannot be combined with --cgroupns %s", r.f.Cgroupns)
}

func (r *specReader) life() {
	f, life := r.f, &r.spec.Lifecycle
	life.AutoRemove = f.Rm
	r.one("sdnotify", f.SDNotify, oneOf("container", "conmon", "healthy", "ignore"))
	life.SdNotify = f.SDNotify
	life.Timeout = time.Duration(f.Timeout) * time.Second
	r.spec.Health = f.HealthFlags.read(&r.flagValues, nil)
	r.one("restart", f.Restart, func(v string) (err error) {
		life.Restart, life.RestartMax, err = syntax.RestartPolicy(v)
		return err
	})
	r.check(f.Rm && len(r.spec.Network.Wake) > 0, "--rm cannot be combined with --wake: the container is to be started again")
	f.WakeFlags.remembered(r.spec)
	r.check(f.Rm && life.Restart != "" && life.Restart != "no", "--rm cannot be combined with --restart %s", f.Restart)
	r.one("stop-signal", f.StopSignal, func(v string) error {
		_, err := syntax.Signal(v)
		return err
	})
	life.StopSignal = f.StopSignal
	if life.StopTimeout = f.StopTimeout; f.StopTimeout != nil {
		r.one("stop-timeout", strconv.Itoa(*f.StopTimeout), func(v string) error {
			_, err := syntax.Seconds(v)
			return err
		})
	}
	r.log()
}

// oneOf accepts the words and nothing else.
func oneOf(words ...string) func(string) error {
	return func(v string) error {
		if slices.Contains(words, v) {
			return nil
		}
		if len(words) == 1 {
			return fmt.Errorf("want %s", words[0])
		}
		last := len(words) - 1
		return fmt.Errorf("want %s or %s", strings.Join(words[:last], ", "), words[last])
	}
}

func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}
