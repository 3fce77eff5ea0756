package completions

import (
	"fmt"
	"strings"

	"moss/config"
)

// configPage is moss.conf(5), the tables of which are config.Keys.
func configPage() string {
	p := startPage("moss.conf", "Configuration files of moss", `5 "" moss "File Formats"`)
	p.section("DESCRIPTION")
	p.text(`moss reads the configuration of podman and buildah, and a file of its own. What the command line says comes before
what a file says; of the files, what is read later comes before what was read earlier. Nothing has to be there.

A file that is not TOML, or has a value of another kind than its key wants, is an error with the name of the file and the
line, to every command but version, help, completion and doctor. 'moss config' shows every value that is in effect, and which
line of which file sets it; it warns of keys that moss does not know, or has no use for.`)
	p.section("FILES")
	for _, f := range [...]struct{ what, files string }{
		{"containers.conf", "/usr/share/containers/containers.conf, then containers.conf.d/*.conf, containers.rootless.conf, " +
			"containers.rootless.conf.d/*.conf and containers.rootless.conf.d/UID/*.conf beside it, then the same in /etc/containers, then " +
			"containers.conf and containers.conf.d/*.conf in $XDG_CONFIG_HOME/containers. The file that CONTAINERS_CONF names takes the place of all of them; " +
			"that of CONTAINERS_CONF_OVERRIDE comes last."},
		{"storage.conf", "The file that CONTAINERS_STORAGE_CONF names, else that in $XDG_CONFIG_HOME/containers, else in /etc/containers, " +
			"else in /usr/share/containers. They do not add up."},
		{"registries.conf", "The file that CONTAINERS_REGISTRIES_CONF names, else one in the same directories, and registries.conf.d/*.conf beside each."},
		{"moss.conf", "moss.conf and moss.conf.d/*.conf in /usr/share/moss, /etc/moss and $XDG_CONFIG_HOME/moss. It may have the tables of containers.conf " +
			"too, which then hold for moss alone, and come after that."},
	} {
		p.term("\\fI"+roff(f.what)+"\\fR", f.files)
	}
	p.text(`Where XDG_CONFIG_HOME is not set it is ~/.config. Directories are read in the order of names. A list takes the place of
what was read before, unless it ends in {append=true}: then it, and those read after it, add to that.`)
	p.keys("KEYS OF MOSS.CONF", "moss.")
	p.keys("KEYS OF CONTAINERS.CONF", "containers. engine. network. secrets.")
	p.keys("KEYS OF STORAGE.CONF", "storage.")
	p.keys("KEYS OF REGISTRIES.CONF", "registries.")
	p.section("KEYS WITHOUT EFFECT")
	for i := range config.Keys {
		if k := &config.Keys[i]; k.Useless != "" {
			p.term("\\fB"+roff(k.Name)+"\\fR", upperFirst(k.Useless)+".")
		}
	}
	p.section("EXAMPLE")
	p.code("# ~/.config/moss/moss.conf\nno_new_privileges = true\n\n[containers]\nlog_size_max = 1048576\nenv = [\"TZ=UTC\", {append=true}]")
	p.section("SEE ALSO")
	fmt.Fprint(p, ".BR moss (1),\n.BR moss-config (1),\n.BR containers.conf (5),\n.BR containers-storage.conf (5),\n.BR containers-registries.conf (5)\n")
	return p.String()
}

// keyTexts say what keys do that are no flag's default, or nowhere else's either.
var keyTexts = [...]struct{ key, text string }{
	{"moss.log_level", "As --log-level."},
	{"moss.no_new_privileges", "As --security-opt no-new-privileges."},
	{"moss.podman_images", "Whether the images of podman's store are seen too."},
	{"moss.root", "As --root. The run directory has no key: it is where moss looks first."},
	{"moss.trusted_realms", "Hosts that are told the credentials for a registry of another domain, where it says that they make its tokens."},
	{"moss.stall_timeout", "Seconds that a registry may send nothing before it is asked again; one minute."},
	{"moss.unpack_max_depth", "How many directories a file of an archive may be in: a layer, an image or volume to import, what cp reads from standard input."},
	{"moss.unpack_max_files", "How many files such an archive may have. Directories and long names count for several: for what they take in memory."},
	{"moss.unpack_max_size", "How many bytes such an archive may have when it is unpacked. What does not fit on the disk is refused anyway."},
	{"moss.unpack_max_window", "How many bytes of memory zstd and xz may want for decompressing it."},
	{"storage.max_size", "In moss.conf: what images may take on the disk, as 20GB. When an image has come and they take more, those without a name that " +
		"no container uses go, the one that was not used for longest first. Images with names never do."},
	{"storage.graphroot", "Where podman's images are, which moss sees too. In a file of the system it is root's, and rootless_storage_path counts."},
	{"storage.options.additionalimagestores", "Further stores whose images moss sees."},
	{"engine.events_logger", "none keeps no record of what moss does; anything else is moss's own log."},
}

// keys lists the keys of tables that have an effect.
func (p *page) keys(title, tables string) {
	p.section(title)
	for i := range config.Keys {
		k := &config.Keys[i]
		table, name, _ := strings.Cut(k.Name, ".")
		if k.Useless != "" || !strings.Contains(tables, table+".") {
			continue
		}
		if table != "moss" && table != "registries" {
			name = k.Name
		}
		text := ""
		for _, t := range keyTexts {
			if t.key == k.Name {
				text = t.text + " "
			}
		}
		text += [...]string{"A string", "True or false", "True or false", "A number", "A list of strings"}[k.Kind]
		if k.Default != "" {
			text += "; " + k.Default + " if it is not set"
		}
		p.term("\\fB"+roff(name)+"\\fR", text+".")
	}
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
