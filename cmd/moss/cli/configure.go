package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"moss/config"
	"moss/rootless"
)

// flagKeys are the keys that are the defaults of flags; a command of two words has a
// dash between them.
var flagKeys = [...]struct{ key, commands, flag string }{
	{"containers.base_hosts_file", "run create", "hosts-file"},
	{"containers.cgroup_conf", "run create", "cgroup-conf"},
	{"containers.cgroupns", "run create", "cgroupns"},
	{"containers.cgroups", "run create", "cgroups"},
	{"containers.default_ulimits", "run create", "ulimit"},
	{"containers.devices", "run create", "device"},
	{"containers.dns_options", "run create", "dns-option"},
	{"containers.dns_searches", "run create", "dns-search"},
	{"containers.dns_servers", "run create", "dns"},
	{"containers.env_host", "run create", "env-host"},
	{"containers.http_proxy", "run create", "http-proxy"},
	{"containers.init", "run create", "init"},
	{"containers.init_path", "run create", "init-path"},
	{"containers.ipcns", "run create", "ipc"},
	{"containers.log_driver", "run create", "log-driver"},
	{"containers.netns", "run create", "network"},
	{"containers.no_hosts", "run create", "no-hosts"},
	{"containers.oom_score_adj", "run create", "oom-score-adj"},
	{"containers.pidns", "run create", "pid"},
	{"containers.privileged", "run create", "privileged"},
	{"containers.read_only", "run create", "read-only"},
	{"containers.shm_size", "run create", "shm-size"},
	{"containers.tz", "run create", "tz"},
	{"containers.umask", "run create", "umask"},
	{"containers.userns", "run create", "userns"},
	{"containers.utsns", "run create", "uts"},
	{"engine.cdi_spec_dirs", "run create", "cdi-spec-dir"},
	{"engine.cdi_spec_dirs", "run create", "cdi-spec-dir"},
	{"engine.chown_copied_files", "cp", "archive"},
	{"engine.detach_keys", "run start attach exec", "detach-keys"},
	{"engine.hooks_dir", "run create", "hooks-dir"},
	{"engine.image_volume_mode", "run create", "image-volume"},
	{"engine.init_path", "run create", "init-path"},
	{"engine.pull_policy", "run create", "pull"},
	{"engine.compression_format", "push", "compression-format"},
	{"engine.compression_level", "push", "compression-level"},
	{"engine.retry", "run create pull push", "retry"},
	{"engine.retry_delay", "run create pull push", "retry-delay"},
	{"engine.runtime", "run create", "runtime"},
	{"engine.stop_timeout", "run create", "stop-timeout"},
	{"moss.low_ports", "run create", "low-ports"},
	{"secrets.driver", "secret-create", "driver"},
}

// yields names the flags that a key gives way to: what the user says on the
// command line is never refused for what a file says.
var yields = [...]struct {
	key   string
	flags []string
}{
	{"containers.no_hosts", []string{"add-host"}},
	{"containers.userns", []string{"uidmap", "gidmap", "as", "subuidname", "subgidname"}},
	{"containers.utsns", []string{"hostname"}},
	{"containers.cgroups", []string{"cgroup-parent", "cgroup-conf"}},
	{"containers.ipcns", []string{"shm-size"}},
}

// configure reads the configuration and lays it below what the command line says.
func (c *call) configure(ctx context.Context, g *Globals, name string, cmd command) (err error) {
	if c.Dirs.Run, err = findRun(g); err != nil {
		return err
	}
	conf, err := rootless.Config(ctx, c.Dirs.Run)
	if err != nil || conf == nil || len(conf.Settings) == 0 {
		return err
	}
	g.conf = conf
	if s := conf.Find("engine.cgroup_manager"); s != nil && g.CgroupManager == "" {
		if err := checkManager(s.Values[0]); err != nil {
			return s.Wrong(s.Values[0], err)
		}
		// As podman, which writes it into its own file, the best there is without a session.
		if s.Values[0] != "systemd" {
			g.CgroupManager = s.Values[0]
		}
	}
	if err := setEnvironment(g, conf); err != nil {
		return err
	}
	if f, ok := cmd.(interface{ containerFlags() *ContainerFlags }); ok {
		f.containerFlags().conf = conf
	}
	for i := range flagKeys {
		k := &flagKeys[i]
		s := conf.Find(k.key)
		if s == nil || !slices.Contains(strings.Fields(k.commands), strings.ReplaceAll(name, " ", "-")) || g.isGiven(k.flag) || g.outweighs(k.key) {
			continue
		}
		if err := g.setFlag(cmd, k.flag, s); err != nil {
			return err
		}
	}
	return nil
}

// checkManager checks the flag.
func (g *Globals) checkManager() error {
	if err := checkManager(g.CgroupManager); err != nil {
		return &flagError{Flag: "--cgroup-manager", Value: g.CgroupManager, Err: err}
	}
	return nil
}

// checkManager checks the name of a cgroup manager; "" is none in particular.
func checkManager(name string) error {
	switch name {
	case "", "systemd", "cgroupfs", "none":
		return nil
	}
	return errors.New("want systemd, cgroupfs or none")
}

// setEnvironment gives moss, and the programs that it starts, the variables that
// are set in files.
func setEnvironment(g *Globals, conf *config.Config) error {
	if s := conf.Find("engine.env"); s != nil {
		for _, kv := range s.Values {
			name, value, ok := strings.Cut(kv, "=")
			if !ok || name == "" {
				return s.Wrong(kv, errors.New("want NAME=VALUE"))
			}
			if err := os.Setenv(name, value); err != nil {
				return s.Wrong(kv, err)
			}
		}
	}
	if s := conf.Find("moss.root"); s != nil && g.Root == "" && os.Getenv("MOSS_ROOT") == "" {
		dir := expandHome(s.Values[0])
		if !filepath.IsAbs(dir) {
			return s.Wrong(s.Values[0], errors.New("it is not an absolute path"))
		}
		if err := os.Setenv("MOSS_ROOT", dir); err != nil {
			return err
		}
	}
	if s := conf.Find("moss.log_level"); s != nil && g.LogLevel == "" && os.Getenv("MOSS_LOG") == "" {
		if err := setLog(s.Values[0]); err != nil {
			return s.Wrong(s.Values[0], errors.Unwrap(err))
		}
	}
	return nil
}

// expandHome replaces a ~ or $HOME at the beginning.
func expandHome(path string) string {
	for _, prefix := range []string{"~/", "$HOME/", "${HOME}/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return filepath.Join(os.Getenv("HOME"), rest)
		}
	}
	return path
}

// outweighs says whether a flag was given that a key gives way to.
func (g *Globals) outweighs(key string) bool {
	for i := range yields {
		if yields[i].key == key {
			return slices.ContainsFunc(yields[i].flags, g.isGiven)
		}
	}
	return false
}

// setFlag gives a flag that was not given the value that a file sets.
func (g *Globals) setFlag(cmd command, flag string, s *config.Setting) error {
	whole := reflect.ValueOf(cmd).Elem()
	for _, f := range leafFields(whole.Type()) {
		if longName(f.StructField) != flag {
			continue
		}
		if err := assign(whole.FieldByIndex(f.path), s.Values); err != nil {
			return s.Wrong(s.Values[0], err)
		}
		g.fromFile = append(g.fromFile, fromFile{flag, s})
		return nil
	}
	return nil
}

// fromFile is a flag whose value a file sets.
type fromFile struct {
	flag    string
	setting *config.Setting
}

// assign sets a field of a grammar. An empty string is no value, as with podman.
func assign(v reflect.Value, values []string) error {
	if len(values) == 0 || v.Kind() != reflect.Slice && values[0] == "" {
		return nil
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.ValueOf(slices.Clone(values)))
	case reflect.String:
		v.SetString(values[0])
	case reflect.Bool:
		b, err := strconv.ParseBool(values[0])
		if err != nil {
			return errors.New("want true or false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(values[0], 10, 64)
		if err != nil {
			return errors.New("want a whole number")
		}
		v.SetInt(n)
	default:
		return fmt.Errorf("cannot set a flag of type %s", v.Type())
	}
	return nil
}

// blame names the line of the file instead of the flag when that is where a wrong
// value comes from.
func (g *Globals) blame(err error) error {
	var wrong *flagError
	if !errors.As(err, &wrong) {
		return err
	}
	for _, f := range g.fromFile {
		if (wrong.Flag == "--"+f.flag || strings.HasSuffix(wrong.Flag, ", --"+f.flag)) && slices.Contains(f.setting.Values, wrong.Value) {
			return f.setting.Wrong(wrong.Value, wrong.Err)
		}
	}
	return err
}
