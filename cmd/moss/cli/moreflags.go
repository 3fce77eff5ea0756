package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
)

// AccountFlags say which users and groups a container knows, and where it is.
type AccountFlags struct {
	Passwd      *bool    `help:"Add the user of the program to the container's /etc/passwd when it is not there; on by default." group:"Process"`
	PasswdEntry string   `help:"That line of /etc/passwd; $USERNAME, $UID, $GID, $NAME and $HOME are replaced." placeholder:"LINE" group:"Process"`
	GroupEntry  string   `help:"The line of /etc/group for its group; $GROUPNAME, $GID and $USERLIST are replaced." placeholder:"LINE" group:"Process"`
	HostUser    []string `name:"hostuser" sep:"none" help:"Add a user of the host to the container's /etc/passwd, by name or number." placeholder:"USER" group:"Process"`
	TZ          string   `name:"tz" help:"Time zone, such as Europe/Paris, or local for the host's." placeholder:"ZONE" group:"Process"`
}

// InitFlags say what the first process is to be like.
type InitFlags struct {
	InitPath       string   `help:"Program of --init, in place of moss's own." placeholder:"FILE" group:"Process"`
	Systemd        string   `words:"true false always" help:"Set up what systemd needs as process 1: true when the command is one (the default), false, or always." placeholder:"MODE" group:"Process"`
	SHMSizeSystemd string   `name:"shm-size-systemd" help:"Size of each tmpfs that systemd gets; 0 for half of the memory." placeholder:"SIZE" group:"Files"`
	EnvMerge       []string `sep:"none" help:"Environment variable whose value names the image's variables, as shells do." placeholder:"NAME=VALUE" group:"Process"`
	UnsetEnvAll    bool     `name:"unsetenv-all" help:"Take away every variable that the image or moss would set." group:"Process"`
	Personality    string   `help:"Execution domain of personality(2): LINUX or LINUX32, and its flags, separated by commas." placeholder:"NAMES" group:"Process"`
	ChrootDirs     []string `name:"chrootdirs" sep:"," help:"Directory in the container that is another root: hosts, resolv.conf and hostname are mounted there too." placeholder:"DIR" group:"Files"`
	HostsFile      string   `help:"File that /etc/hosts begins with: none (the default), image for the image's, or a path." placeholder:"FILE" group:"Network"`
	NoHostname     bool     `help:"Leave /etc/hostname as the image has it." group:"Network"`
	Requires       []string `sep:"," help:"Container that is started before this one." placeholder:"CONTAINER" group:"Life"`
	GPUs           []string `name:"gpus" sep:"none" help:"GPUs of Nvidia, by their CDI names: all, or a list of numbers." placeholder:"LIST" group:"Files"`
	CDISpecDir     []string `name:"cdi-spec-dir" sep:"none" help:"Directory of CDI specifications; /etc/cdi and /var/run/cdi when none is given." placeholder:"DIR" group:"Files"`
	HooksDir       []string `sep:"none" help:"Directory of OCI hooks, oci-hooks(5)." placeholder:"DIR" group:"Container"`
	ConmonPidfile  string   `help:"Write the process ID of the container's monitor to this file." placeholder:"FILE" group:"Life"`
}

// PullFlags go to the pull of an image that is missing.
type PullFlags struct {
	Creds      string `help:"Credentials for the registry." placeholder:"USER[:PASSWORD]" group:"Image"`
	CertDir    string `help:"Directory with certificates for the registry." placeholder:"DIR" group:"Image"`
	Retry      *int   `help:"How often to try a pull again." placeholder:"N" group:"Image"`
	RetryDelay string `help:"Pause before each try; growing ones when not given." placeholder:"DURATION" group:"Image"`
}

func (r *specReader) accounts() {
	f, p := r.f, &r.spec.Process
	p.NoPasswd = f.Passwd != nil && !*f.Passwd
	r.check(p.NoPasswd && f.PasswdEntry+f.GroupEntry != "", "--passwd-entry and --group-entry cannot be combined with --passwd=false")
	r.one("passwd-entry", f.PasswdEntry, func(v string) error { return syntax.AccountLine(v, 7) })
	r.one("group-entry", f.GroupEntry, func(v string) error { return syntax.AccountLine(v, 4) })
	p.PasswdEntry, p.GroupEntry = f.PasswdEntry, f.GroupEntry
	r.each("hostuser", f.HostUser, func(v string) error {
		user, err := rootless.HostUser(v)
		p.HostUsers = append(p.HostUsers, user)
		return err
	})
	r.one("tz", f.TZ, syntax.TimeZone)
	p.TimeZone = f.TZ
}

func (r *specReader) first() {
	f, p := r.f, &r.spec.Process
	r.one("init-path", f.InitPath, func(v string) error {
		p.InitPath = r.absolute(v)
		if info, err := os.Stat(p.InitPath); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return fmt.Errorf("it is not a program")
		}
		return nil
	})
	r.one("systemd", f.Systemd, func(v string) error {
		if v = strings.ToLower(v); v == "always" {
			p.SystemdMode = v
			return nil
		}
		on, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("want true, false or always")
		}
		p.SystemdMode = strconv.FormatBool(on)
		return nil
	})
	r.check(p.SystemdMode == "always" && f.Init, "--systemd always cannot be combined with --init: systemd wants to be process 1")
	r.one("shm-size-systemd", f.SHMSizeSystemd, func(v string) error {
		size, err := syntax.Size(v)
		r.spec.Rootfs.SystemdSize = &size
		return err
	})
	r.one("personality", f.Personality, func(v string) (err error) {
		p.Personality, err = syntax.Personality(v)
		return err
	})
	r.each("chrootdirs", f.ChrootDirs, func(v string) error {
		if !strings.HasPrefix(v, "/") {
			return fmt.Errorf("it is not an absolute path")
		}
		r.spec.Rootfs.ChrootDirs = append(r.spec.Rootfs.ChrootDirs, filepath.Clean(v))
		return nil
	})
	r.one("hosts-file", f.HostsFile, func(v string) error {
		if v == "none" || v == "image" {
			r.spec.Network.HostsFile = v
			return nil
		}
		r.spec.Network.HostsFile = r.absolute(v)
		return readable(r.spec.Network.HostsFile)
	})
	r.check(f.NoHosts && f.HostsFile != "", "--no-hosts cannot be combined with --hosts-file")
	r.spec.Network.NoHostname = f.NoHostname
	r.each("requires", f.Requires, func(string) error { return nil })
	r.spec.Lifecycle.Requires = f.Requires
	r.each("hooks-dir", f.HooksDir, func(v string) error {
		r.spec.HooksDirs = append(r.spec.HooksDirs, r.absolute(v))
		return directory(v)
	})
	r.one("conmon-pidfile", f.ConmonPidfile, func(v string) (err error) {
		r.spec.Lifecycle.MonitorPIDFile, err = r.writable(v)
		return err
	})
}

func (f *PullFlags) check(r *flagValues) {
	r.one("cert-dir", f.CertDir, directory)
	r.one("retry-delay", f.RetryDelay, func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return fmt.Errorf("it is not a duration such as 2s")
		}
		return nil
	})
	if f.Retry != nil {
		r.one("retry", strconv.Itoa(*f.Retry), func(string) error {
			if *f.Retry < 0 {
				return fmt.Errorf("it is negative")
			}
			return nil
		})
	}
}

// retries are in the words of image.PullRequest.
func (f *PullFlags) retries() (n int, delay time.Duration) {
	if f.Retry != nil {
		if n = *f.Retry; n == 0 {
			n = -1
		}
	}
	delay, _ = time.ParseDuration(f.RetryDelay) // checked
	return n, delay
}

// devices are nodes of the host, and those that CDI specifications describe.
func (r *specReader) devices() {
	f, sec := r.f, &r.spec.Security
	r.each("device", f.Device, func(v string) error {
		if syntax.IsCDI(v) {
			sec.CDI = append(sec.CDI, v)
			return nil
		}
		sec.Devices = append(sec.Devices, v)
		return syntax.Device(v)
	})
	r.each("gpus", f.GPUs, func(v string) error {
		names, err := syntax.GPUs(v)
		sec.CDI = append(sec.CDI, names...)
		return err
	})
	r.each("cdi-spec-dir", f.CDISpecDir, directory)
	if len(sec.CDI) == 0 {
		return
	}
	if sec.CDIDirs = []string{"/etc/cdi", "/var/run/cdi"}; len(f.CDISpecDir) > 0 {
		sec.CDIDirs = nil
	}
	for _, dir := range f.CDISpecDir {
		sec.CDIDirs = append(sec.CDIDirs, r.absolute(dir))
	}
}
