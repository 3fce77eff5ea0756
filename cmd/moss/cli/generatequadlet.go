package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
	"moss/rootless/container"
	"moss/slirp"
	"moss/storage/volume"
	"moss/systemd/quadlet"
)

// GenerateQuadletCmd is "moss generate quadlet".
type GenerateQuadletCmd struct {
	Globals
	Files     bool     `short:"f" help:"Write files into the working directory, those of its networks and volumes too, and print their paths."`
	Container []string `arg:"" help:"Name, ID, or the first digits of an ID."`
}

// Run prints a .container file, or writes it and what belongs to it.
func (cmd *GenerateQuadletCmd) Run(ctx context.Context, c *call) error {
	files := map[string]string{}
	for i, name := range cmd.Container {
		ctr, err := c.Engine.Find(name)
		if err != nil {
			return err
		}
		text, err := c.quadletOf(ctr, cmd.Files, files)
		if err != nil {
			return fmt.Errorf("cannot generate a quadlet file for container %q: %w", ctr.Spec.Name, err)
		}
		if files[ctr.Spec.Name+".container"] = text; cmd.Files {
			continue
		}
		if i > 0 {
			fmt.Fprintln(c.Out, "---")
		}
		if len(cmd.Container) > 1 {
			fmt.Fprintf(c.Out, "# FileName=%s\n", ctr.Spec.Name)
		}
		fmt.Fprint(c.Out, text)
	}
	if !cmd.Files {
		return nil
	}
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if _, err := os.Lstat(name); err == nil {
			return fmt.Errorf("cannot write %q: it is there already", name)
		}
	}
	for _, name := range names {
		path, err := filepath.Abs(name)
		if err == nil {
			err = record.Replace(path, []byte(files[name]), 0o644, false)
		}
		if err != nil {
			return fmt.Errorf("cannot write %q: %w", name, err)
		}
		fmt.Fprintln(c.Out, path)
	}
	return nil
}

// quadletOf is the file that makes a container again. With beside its networks and
// volumes become files too.
func (c *call) quadletOf(ctr *container.Container, beside bool, files map[string]string) (string, error) {
	spec := &ctr.Spec
	given, image, err := createdWith(spec)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(key, value string) { b.WriteString(key + "=" + value + "\n") }
	b.WriteString("[Unit]\nDescription=Container " + spec.Name + "\n\n[Container]\n")
	if spec.Rootfs.Path != "" {
		line("Rootfs", quadlet.Raw(spec.Rootfs.Path))
	} else {
		line("Image", quadlet.Raw(image[0]))
	}
	line("ContainerName", spec.Name)
	switch spec.Lifecycle.SdNotify {
	case "healthy":
		line("Notify", "healthy")
	case "container":
		line("Notify", "true")
	case "ignore":
		line("PodmanArgs", "--sdnotify=ignore")
	}
	for _, g := range given {
		name := "--" + g.flag.Name
		if g.flag.Name == "rootfs" {
			continue
		}
		value := g.value
		if beside {
			if value, err = c.besides(g, files); err != nil {
				return "", err
			}
		}
		if value != g.value { // a file of that name is written too
			line(map[string]string{"network": "Network", "volume": "Volume"}[g.flag.Name], quadlet.Raw(value))
			continue
		}
		b.WriteString(quadlet.Assignment(name, value, g.flag.IsBool()) + "\n")
	}
	if len(image) > 1 {
		words := make([]string, 0, len(image)-1)
		for _, w := range image[1:] {
			words = append(words, quadlet.Word(w))
		}
		line("Exec", strings.Join(words, " "))
	}
	b.WriteString("\n[Service]\nRestart=" + unitRestart(spec) + "\n\n[Install]\nWantedBy=default.target\n")
	return b.String(), nil
}

// unitRestart is systemd's word for a container's restart policy; a service of a
// container without one starts again when it fails.
func unitRestart(spec *container.Spec) string {
	switch policy := spec.Lifecycle.Restart; policy {
	case "":
		return "on-failure"
	case "unless-stopped": // a service that is stopped stays so
		return "always"
	default:
		return policy
	}
}

// besides adds the file of a network or volume that a flag names, and returns the value
// that refers to it.
func (c *call) besides(g givenFlag, files map[string]string) (string, error) {
	switch g.flag.Name {
	case "network":
		name, options, more := strings.Cut(g.value, ":")
		n, err := c.network(name)
		if err != nil || name == slirp.DefaultName || n.Name != name {
			return g.value, nil //nolint:nilerr // it is a mode, such as host
		}
		if files[name+".network"], err = networkFile(n); err != nil {
			return "", err
		}
		if more {
			return name + ".network:" + options, nil
		}
		return name + ".network", nil
	case "volume":
		name, rest, ok := strings.Cut(g.value, ":")
		if !ok || name == "" || strings.Contains(name, "/") {
			return g.value, nil
		}
		v, err := c.Engine.Volumes.Get(name)
		if err != nil {
			return "", err
		}
		if v.Anonymous {
			return g.value, nil
		}
		files[name+".volume"] = volumeFile(v)
		return name + ".volume:" + rest, nil
	}
	return g.value, nil
}

func networkFile(n *slirp.Network) (string, error) {
	if n.ID == "" || n.Driver != "bridge" {
		return "", errors.New("network " + n.Name + " is not moss's")
	}
	out := []string{"[Network]", "NetworkName=" + n.Name}
	for _, s := range n.Subnets {
		out = append(out, "Subnet="+s.Prefix.String())
	}
	for _, s := range n.Subnets {
		if s.Gateway.IsValid() {
			out = append(out, "Gateway="+s.Gateway.String())
		}
	}
	for _, s := range n.Subnets {
		if s.First.IsValid() {
			out = append(out, "IPRange="+s.First.String()+"-"+s.Last.String())
		}
	}
	if n.Internal {
		out = append(out, "Internal=true")
	}
	if !n.DNS {
		out = append(out, "DisableDNS=true")
	}
	for _, a := range n.Servers {
		out = append(out, "DNS="+a.String())
	}
	for _, r := range n.Routes {
		route := r.Prefix.String() + "," + r.Gateway.String()
		if r.Metric > 0 {
			route += fmt.Sprint(",", r.Metric)
		}
		out = append(out, "PodmanArgs=--route="+route)
	}
	options := maps.Clone(n.Options)
	if n.MTU > 0 && n.MTU != slirp.DefaultMTU {
		options = setOption(options, "mtu", fmt.Sprint(n.MTU))
	}
	return strings.Join(slices.Concat(out, settings("Options", options), settings("Label", n.Labels)), "\n") + "\n", nil
}

func setOption(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

func volumeFile(v *volume.Volume) string {
	out := []string{"[Volume]", "VolumeName=" + v.Name}
	if v.UID != nil {
		out = append(out, fmt.Sprint("UID=", *v.UID))
	}
	if v.GID != nil {
		out = append(out, fmt.Sprint("GID=", *v.GID))
	}
	for _, key := range slices.Sorted(maps.Keys(v.Options)) {
		word := key
		if v.Options[key] != "" {
			word += "=" + v.Options[key]
		}
		out = append(out, "PodmanArgs=--opt="+quadlet.Word(word))
	}
	return strings.Join(append(out, settings("Label", v.Labels)...), "\n") + "\n"
}

// settings are assignments of a key, one for each entry.
func settings(key string, m map[string]string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+quadlet.Word(name+"="+m[name]))
	}
	return out
}
