package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/logs"
	"moss/rootless/monitor"
	"moss/systemd/journal"
)

// Logs writes what containers have written: see logs.Print.
func (e *Engine) Logs(ctx context.Context, list []*container.Container, o logs.Options) error {
	var all []logs.Log
	for _, c := range list {
		all = append(all, logs.Log{Container: c, Log: LogOf(c)})
	}
	err := logs.Print(ctx, all, o)
	if ctx.Err() != nil {
		return nil // stopped reading, as asked
	}
	return err
}

// DefaultLogSize bounds a log about which nothing was said, in bytes; one older file
// is kept beside it.
const DefaultLogSize = 32 << 20

// LogOf is where a container's output goes.
func LogOf(c *container.Container) monitor.Log {
	o := c.Spec.Log.Options
	log := monitor.Log{Driver: c.Spec.Log.Driver, Path: o["path"], MaxSize: DefaultLogSize, MaxFile: 1, Tag: o["tag"]}
	if log.Driver == "" {
		log.Driver = "k8s-file"
	}
	switch {
	case log.Path != "":
	case c.Spec.Log.Dir != "":
		log.Path = filepath.Join(c.Spec.Log.Dir, c.Spec.ID, "ctr.log")
	default:
		log.Path = filepath.Join(c.Dir, "ctr.log")
	}
	if n, err := strconv.ParseInt(o["max-size"], 10, 64); err == nil {
		log.MaxSize = max(n, 0) // podman: -1 is no limit
	}
	if n, err := strconv.Atoi(o["max-file"]); err == nil {
		log.MaxFile = n
	}
	if strings.Contains(log.Tag, "{{") {
		if tag, err := logTag(&c.Spec, log.Tag); err == nil { // create has looked
			log.Tag = tag
		}
	}
	for label := range strings.Lines(o["label"]) {
		name, value, _ := strings.Cut(strings.TrimSuffix(label, "\n"), "=")
		if log.Labels == nil {
			log.Labels = map[string]string{}
		}
		log.Labels[name] = value
	}
	return log
}

// checkLog says why a container cannot have the log that was asked for.
func checkLog(spec *container.Spec) error {
	driver := spec.Log.Driver
	file := driver == "" || driver == "k8s-file" || driver == "json-file"
	for option := range spec.Log.Options {
		switch {
		case option == "tag" || option == "label":
			if driver != "journald" {
				return fmt.Errorf("cannot use log option %q: it is for the driver journald", option)
			}
		case !file:
			return fmt.Errorf("cannot use log option %q: it is for the drivers k8s-file and json-file", option)
		}
	}
	if tag := spec.Log.Options["tag"]; strings.Contains(tag, "{{") {
		if _, err := logTag(spec, tag); err != nil {
			return fmt.Errorf("cannot use tag %q of the log: %w", tag, err)
		}
	}
	if driver == "journald" {
		if err := journal.Available(journal.Socket); err != nil {
			return fmt.Errorf("cannot use log driver \"journald\": %w", err)
		}
	}
	return nil
}

// passthrough says whether the program gets the very streams of the moss that starts it.
func passthrough(spec *container.Spec) bool {
	return spec.Log.Driver == "passthrough" || spec.Log.Driver == "passthrough-tty"
}

// inherited are the streams that such a program inherits. A terminal is more than a
// stream: who has it can type on it, see TIOCSTI in ioctl_tty(2).
func inherited(spec *container.Spec) ([]*os.File, error) {
	if !passthrough(spec) {
		return nil, nil
	}
	streams := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, f := range streams {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil && spec.Log.Driver == "passthrough" {
			return nil, fmt.Errorf("%s is a terminal, which log driver \"passthrough\" hands to no container (\"passthrough-tty\" does)", f.Name())
		}
	}
	return streams, nil
}

// logTag completes a tag that is a template over the fields of inspect.
func logTag(spec *container.Spec, tag string) (string, error) {
	t, err := template.New("tag").Option("missingkey=error").Parse(tag)
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: tag:"))
	}
	var out strings.Builder
	path, args := "", []string{}
	if len(spec.Process.Args) > 0 {
		path, args = spec.Process.Args[0], spec.Process.Args[1:]
	}
	err = t.Execute(&out, map[string]any{
		"ID": spec.ID, "Id": spec.ID, "Name": spec.Name, "Created": spec.Created, "Path": path, "Args": args,
		"Image": spec.Image.ID, "ImageName": spec.Image.Name, "ImageID": spec.Image.ID, "ImageDigest": spec.Image.Digest,
		"Pod": spec.Pod, "Labels": spec.Labels,
		"Config": map[string]any{"Labels": spec.Labels, "Hostname": spec.Network.Hostname, "Annotations": spec.Annotations, "User": spec.Process.User},
	})
	if err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: tag:"))
	}
	return out.String(), nil
}
