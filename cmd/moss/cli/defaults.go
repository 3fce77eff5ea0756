package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/config"
	"moss/rootless/container"
	"moss/rootless/oci"
)

// setting reads the values of a key that files set, as one and each read flags'.
func (r *specReader) setting(key string, read func(string) error) {
	s := r.f.conf.Find(key)
	if s == nil || r.err != nil {
		return
	}
	for _, v := range s.Values {
		if v == "" {
			continue
		}
		if err := read(v); err != nil {
			r.err = s.Wrong(v, err)
			return
		}
	}
}

// defaults lays below the Spec of the command line what files set and no flag
// stands for, or what adds to a flag instead of giving way to it.
func (r *specReader) defaults() {
	if r.f.conf == nil {
		return
	}
	s := r.spec
	r.setting("containers.annotations", func(v string) error {
		key, value, err := syntax.KeyValue(v, false)
		if _, ok := s.Annotations[key]; !ok {
			s.Annotations[key] = value
		}
		return err
	})
	r.defaultMounts()
	r.defaultSecurity()
	r.defaultLog()
	r.setting("containers.pids_limit", func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		s.Resources.DefaultPids = &n
		return err
	})
	r.setting("containers.host_containers_internal_ip", func(v string) error {
		s.Network.HostIP = v
		if v == "none" {
			return nil
		}
		return syntax.Address(v)
	})
}

// defaultMounts adds mounts where the command line mounts nothing.
func (r *specReader) defaultMounts() {
	add := func(err error, mounts ...container.Mount) error {
		for _, m := range mounts {
			taken := func(o container.Mount) bool { return o.Target == m.Target }
			if err == nil && !slices.ContainsFunc(r.spec.Rootfs.Mounts, taken) {
				r.spec.Rootfs.Mounts = append(r.spec.Rootfs.Mounts, m)
			}
		}
		return err
	}
	r.setting("containers.volumes", func(v string) error {
		m, err := syntax.Volume(v, r.dir)
		return add(err, m)
	})
	r.setting("containers.mounts", func(v string) error {
		mounts, err := syntax.Mount(v, r.dir)
		return add(err, mounts...)
	})
}

func (r *specReader) defaultSecurity() {
	sec := &r.spec.Security
	if caps := r.f.conf.Find("containers.default_capabilities"); caps != nil {
		sec.CapDefault = []string{}
		r.setting(caps.Key, func(v string) error {
			name, err := syntax.Capability(v)
			sec.CapDefault = append(sec.CapDefault, name)
			return err
		})
		if oci.AreDefaultCapabilities(sec.CapDefault) {
			sec.CapDefault = nil
		}
	}
	r.setting("containers.default_sysctls", func(v string) error {
		key, value, namespace, err := syntax.Sysctl(v)
		if err != nil || key == "net.ipv4.ping_group_range" && value == "0 0" { // moss lets every group ping
			return err
		}
		mode := map[string]string{"network": r.spec.Network.Mode, "ipc": r.f.IPC, "uts": r.f.UTS}[namespace]
		if _, ok := sec.Sysctls[key]; ok || mode == "host" || strings.Contains(mode, ":") && !strings.HasPrefix(mode, "private:") {
			return nil // it is not the container's to set
		}
		if sec.Sysctls == nil {
			sec.Sysctls = map[string]string{}
		}
		sec.Sysctls[key] = value
		return nil
	})
	r.setting("containers.apparmor_profile", func(v string) error {
		if sec.AppArmor == "" && !sec.Privileged {
			sec.AppArmor = v
		}
		return nil
	})
	r.setting("containers.seccomp_profile", func(v string) error {
		if sec.Seccomp != "" || sec.Privileged || v == podmanProfile {
			return nil
		}
		return syntax.SecurityOption("seccomp="+v, sec, "/")
	})
	if !r.f.conf.Bool("containers.label", true) && len(sec.Label) == 0 {
		sec.Label = []string{"disable"}
	}
}

// podmanProfile is the profile that podman's packages bring, which moss's own
// takes the place of: it allows the same and needs no file to be read.
const podmanProfile = "/usr/share/containers/seccomp.json"

func (r *specReader) defaultLog() {
	log := &r.spec.Log
	option := func(name, value string) {
		if _, ok := log.Options[name]; ok || value == "" {
			return
		}
		if log.Options == nil {
			log.Options = map[string]string{}
		}
		log.Options[name] = value
	}
	isFile := slices.Contains([]string{"", "k8s-file", "json-file"}, log.Driver)
	if n := r.f.conf.Int("containers.log_size_max", 0); n != 0 && isFile {
		option("max-size", strconv.FormatInt(max(n, -1), 10))
	}
	if log.Driver == "journald" {
		option("tag", r.f.conf.String("containers.log_tag"))
	}
	r.setting("containers.log_path", func(v string) error {
		if v = expandHome(v); !filepath.IsAbs(v) {
			return errors.New("it is not an absolute path")
		}
		if isFile && log.Options["path"] == "" {
			log.Dir = v
		}
		return nil
	})
}

// defaultEnvironment is what files set below the image's environment.
func (f *ContainerFlags) defaultEnvironment() (out []string, err error) {
	s := f.conf.Find("containers.env")
	if s == nil {
		return nil, nil
	}
	environ := os.Environ()
	for _, v := range s.Values {
		kv, err := syntax.Environment(v, environ)
		if err != nil {
			return nil, s.Wrong(v, err)
		}
		out = append(out, kv...)
	}
	return out, nil
}

// configuredRuntime is the program of a runtime that engine.runtimes names.
func configuredRuntime(conf *config.Config, name string) (path string, err error) {
	s := conf.Find("engine.runtimes." + name)
	if s == nil {
		return "", nil
	}
	for _, path := range s.Values {
		if isProgram(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("none of the programs of %s in %s is there", s.Key, s.From[0])
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
