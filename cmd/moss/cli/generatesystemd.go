package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"moss/record"
	"moss/rootless"
	"moss/rootless/container"
	"moss/systemd/quadlet"
)

// GenerateSystemdCmd is "moss generate systemd".
type GenerateSystemdCmd struct {
	Globals
	New             bool     `help:"A unit that makes the container at each start, by the command that made this one, and removes it at the end."`
	Name            bool     `short:"n" help:"Call the unit by the container's name; by its ID otherwise."`
	Files           bool     `short:"f" help:"Write it to a file in the working directory, and print its path."`
	Template        bool     `help:"A template, of which each instance makes a container of its own: NAME-INSTANCE."`
	RestartPolicy   string   `words:"no on-success on-failure on-abnormal on-watchdog on-abort always" help:"When systemd starts it again; by default as the container's policy says, else on-failure." placeholder:"POLICY"`
	RestartSec      string   `help:"Seconds before it does." placeholder:"SECONDS"`
	StartTimeout    string   `help:"Seconds that a start may take." placeholder:"SECONDS"`
	StopTimeout     string   `help:"Seconds between the stop signal and SIGKILL; by default the container's." placeholder:"SECONDS"`
	ContainerPrefix string   `help:"What the name of the unit begins with; container by default." placeholder:"PREFIX"`
	Separator       string   `help:"What follows that; - by default." placeholder:"TEXT"`
	After           []string `sep:"none" help:"A unit that is started before it." placeholder:"UNIT"`
	Wants           []string `sep:"none" help:"A unit that is started too." placeholder:"UNIT"`
	Requires        []string `sep:"none" help:"A unit without which it is not started." placeholder:"UNIT"`
	Env             []string `sep:"none" short:"e" help:"A variable for moss in the unit; without a value as it is here." placeholder:"NAME[=VALUE]"`
	NoHeader        bool     `help:"Leave out the comments at the head."`
	Format          string   `help:"json prints names with texts, or with paths." placeholder:"json"`
	Container       string   `arg:"" help:"Name, ID, or the first digits of an ID."`

	restartWait, startTimeout, stopTimeout *time.Duration
	env                                    []string
}

func (cmd *GenerateSystemdCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[GenerateSystemdCmd]()}
	if cmd.RestartPolicy != "" {
		v.one("restart-policy", cmd.RestartPolicy, oneOf("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"))
	}
	if cmd.Format != "" {
		v.one("format", cmd.Format, oneOf("json"))
	}
	cmd.restartWait = readTimeout(v, "restart-sec", cmd.RestartSec)
	cmd.startTimeout = readTimeout(v, "start-timeout", cmd.StartTimeout)
	cmd.stopTimeout = readTimeout(v, "stop-timeout", cmd.StopTimeout)
	for _, d := range []*time.Duration{cmd.restartWait, cmd.startTimeout, cmd.stopTimeout} {
		v.check(d != nil && *d < 0, "a time in a unit cannot be negative")
	}
	v.check(cmd.Template && cmd.isGiven("new") && !cmd.New, "--template needs --new")
	cmd.New = cmd.New || cmd.Template
	if !cmd.isGiven("container-prefix") {
		cmd.ContainerPrefix = "container"
	}
	if !cmd.isGiven("separator") {
		cmd.Separator = "-"
	}
	if cmd.ContainerPrefix == "" { // podman: nothing to separate
		cmd.Separator = ""
	}
	for _, text := range []string{cmd.ContainerPrefix, cmd.Separator} {
		v.check(strings.ContainsAny(text, "/ \n@%"), "the name of a unit cannot have %q in it", text)
	}
	for _, list := range [][]string{cmd.After, cmd.Wants, cmd.Requires} {
		for _, unit := range list {
			v.check(unit == "" || strings.ContainsAny(unit, "/ \n"), "%q is not the name of a unit", unit)
		}
	}
	for _, e := range cmd.Env {
		name, value, given := strings.Cut(e, "=")
		if prefix, all := strings.CutSuffix(name, "*"); all && !given {
			for _, here := range os.Environ() {
				if strings.HasPrefix(here, prefix) {
					name, value, _ := strings.Cut(here, "=")
					cmd.env = append(cmd.env, quadlet.Setting(name, value))
				}
			}
			continue
		}
		if !given {
			value, given = os.LookupEnv(name)
		}
		v.check(name == "" || strings.ContainsAny(name, " \n"), "%q is not the name of a variable", name)
		if given {
			cmd.env = append(cmd.env, quadlet.Setting(name, value))
		}
	}
	return v.err
}

// Run prints the unit, or writes it.
func (cmd *GenerateSystemdCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	name, text, err := cmd.unit(ctr)
	if err != nil {
		return fmt.Errorf("cannot generate a unit for container %q: %w", ctr.Spec.Name, err)
	}
	if cmd.Files {
		path, err := filepath.Abs(name + ".service")
		if err == nil {
			err = record.Replace(path, []byte(text), 0o644, false)
		}
		if err != nil {
			return fmt.Errorf("cannot write unit %q: %w", name, err)
		}
		if text = path; cmd.Format == "" {
			text += "\n"
		}
	}
	if cmd.Format == "json" {
		data, err := json.MarshalIndent(map[string]string{name: text}, "", "    ")
		if err != nil {
			return err
		}
		text = string(data) + "\n"
	}
	_, err = fmt.Fprint(c.Out, text)
	return err
}

// names are the unit's, without .service, and what it calls the container by.
func (cmd *GenerateSystemdCmd) names(spec *container.Spec) (unit, called string) {
	prefix := cmd.ContainerPrefix + cmd.Separator
	switch {
	case cmd.Template:
		return prefix + spec.Name + "@", spec.Name + "-%i"
	case cmd.Name:
		return prefix + spec.Name, spec.Name
	case cmd.New:
		return prefix + spec.ID, spec.Name
	}
	return prefix + spec.ID, spec.ID
}

// unit is the unit's name, without .service, and its text.
func (cmd *GenerateSystemdCmd) unit(ctr *container.Container) (name, text string, err error) {
	spec := &ctr.Spec
	name, called := cmd.names(spec)
	stop := int64(rootless.StopTimeout(spec, cmd.stopTimeout) / time.Second)
	commands, err := cmd.commands(spec, called, stop)
	if err != nil {
		return "", "", err
	}

	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s.service", name)
	if !cmd.NoHeader {
		line("# made by moss %s on %s", Version, time.Now().Format(time.UnixDate))
	}
	line("\n[Unit]\nDescription=Container %s\nDocumentation=man:moss-generate-systemd(1)\nRequiresMountsFor=%%t", called)
	for _, l := range []struct {
		key   string
		units []string
	}{{"Wants", cmd.Wants}, {"After", cmd.After}, {"Requires", cmd.Requires}} {
		if len(l.units) > 0 {
			line("%s=%s", l.key, strings.Join(l.units, " "))
		}
	}
	line("\n[Service]\nType=notify\nNotifyAccess=all\nKillMode=mixed\nEnvironment=%s=%%n", rootless.UnitLabel)
	for _, e := range cmd.env {
		line("Environment=%s", e)
	}
	line("Restart=%s", or(cmd.RestartPolicy, unitRestart(spec)))
	if cmd.restartWait != nil {
		line("RestartSec=%d", int64(cmd.restartWait.Seconds()))
	}
	if cmd.startTimeout != nil {
		line("TimeoutStartSec=%d", int64(cmd.startTimeout.Seconds()))
	}
	line("TimeoutStopSec=%d", stop+60) // podman's: what comes after SIGKILL takes time too
	line("%s\n\n[Install]\nWantedBy=default.target", commands)
	return name, b.String(), nil
}

// commands are the lines that start and stop the container.
func (cmd *GenerateSystemdCmd) commands(spec *container.Spec, called string, stop int64) (string, error) {
	moss, err := os.Executable()
	if err != nil {
		return "", err
	}
	moss = quadlet.Word(moss)
	notify := spec.Lifecycle.SdNotify
	if !slices.Contains([]string{"container", "healthy"}, notify) {
		notify = "conmon"
	}
	if !cmd.New {
		if spec.Lifecycle.AutoRemove {
			return "", errors.New("it is removed when it ends (--rm); --new makes it at each start")
		}
		end := fmt.Sprintf("%s stop -t %d %s", moss, stop, called)
		return fmt.Sprintf("ExecStart=%s start --sdnotify=%s %s\nExecStop=%s\nExecStopPost=%s", moss, notify, called, end, end), nil
	}
	command, err := unitCommand(spec, called, notify)
	if err != nil {
		return "", err
	}
	globals, _ := splitCommand(spec.CreateCommand)
	for _, g := range globals {
		moss += " " + quadlet.Word(g)
	}
	return fmt.Sprintf("ExecStart=%s %s\nExecStop=%s stop --ignore -t %d %s\nExecStopPost=%s rm -f --ignore -t %d %s",
		moss, strings.Join(command, " \\\n\t"), moss, stop, called, moss, stop, called), nil
}
