package completions

import (
	"fmt"
	"strings"

	"moss/systemd/quadlet"
)

// unitPage is moss-unit(5), whose tables are those of the converter.
func unitPage() string {
	p := startPage("moss-unit", "Quadlet files, of which services of the user's service manager are made", `5 "" moss "File Formats"`)
	p.section("DESCRIPTION")
	p.text(`A quadlet file describes a container, or what belongs to one, as a unit file of systemd: a .container file has a section
[Container] beside [Unit], [Service] and [Install]. moss-generator makes services of all files at each start of the user's
service manager, and at each 'systemctl --user daemon-reload'. The files are those of podman, see podman-systemd.unit(5);
docs/compat.md lists what moss makes of them differently.

The service of web.container is web.service; that of a file of another kind has a suffix, as app-network.service. ServiceName
gives it another name. Its SourcePath names the file.`)
	unitFiles(p)
	p.section("ERRORS")
	p.text(`What is wrong is said with file and line by 'moss unit check', and by the generator in the journal of the service: 'moss unit
logs web'. The service then stays as it was before the error, and its description says so; one that was never right fails with
the message when it is started.`)
	for _, s := range quadlet.Sections() {
		p.section("KEYS OF [" + strings.ToUpper(s.Name) + "]")
		for _, k := range s.Keys {
			p.term("\\fB"+roff(k.Name)+"=\\fR", UnitKeyText(s.Name, k))
		}
	}
	p.section("OTHER SECTIONS")
	p.text(`[Unit] and [Service] are the service's, and read by systemd. Type is notify, or oneshot for a program that ends; KillMode is
mixed or control-group; ExecStart is made by moss. A pull does not count to TimeoutStartSec.

[Install] has Alias, WantedBy, RequiredBy, UpheldBy and DefaultInstance, which hold without 'systemctl enable'; WantedBy=default.target
starts a service with the service manager: at boot, for a user who lingers.

[Quadlet] has DefaultDependencies, which moss reads and has no use for: no service waits for the network.`)
	p.section("PODMAN BESIDE MOSS")
	p.text(`Where podman's generator is installed too, the services of moss count. A link to /dev/null in /etc/systemd/user-generators,
called podman-user-generator or moss-generator, turns that one off.`)
	p.section("EXAMPLE")
	p.code(unitExample)
	p.section("SEE ALSO")
	fmt.Fprint(p, ".BR moss (1),\n.BR moss-unit-check (1),\n.BR moss-unit-apply (1),\n.BR moss-generate-quadlet (1),\n.BR systemd.unit (5),\n.BR systemd.service (5),\n.BR systemd.generator (7)\n")
	return p.String()
}

// unitFiles says which files there are.
func unitFiles(p *page) {
	p.section("WHERE FILES LIE")
	for _, d := range [...][2]string{
		{"$XDG_RUNTIME_DIR/containers/systemd", "Until the next reboot."},
		{"$XDG_CONFIG_HOME/containers/systemd", "Or ~/.config/containers/systemd: yours, where 'moss unit install' puts them."},
		{"/etc/containers/systemd/users/UID, /etc/containers/systemd/users", "The administrator's, for one user and for all."},
		{"/usr/share/containers/systemd/users/UID, /usr/share/containers/systemd/users", "The distribution's."},
	} {
		p.term("\\fI"+roff(d[0])+"\\fR", d[1])
	}
	p.text(`Directories below them are read too, and links followed. Of several files of a name the first in this order counts; two
below one of these directories are an error. QUADLET_UNIT_DIRS, with absolute paths between colons, takes the place of all.

Drop-ins add to a file: for blog-db@one.container they are *.conf in blog-db@one.container.d, blog-db@.container.d,
blog-@.container.d, blog-.container.d and container.d. Of several of a name the first in this order counts; they are read in
the order of their names.

web@.container is a template: its service, web@.service, has instances such as web@one.service. A link web@one.container to it
makes that instance, with drop-ins of its own. %i is the instance's name, and other specifiers of systemd.unit(5) may be used
in all values.

What one file says of another by its name, such as Network=app.network, Volume=data.volume, Image=app.image, Pod=shop.pod,
Mount=type=volume,source=data.volume or After=db.container, is the other's resource or service, which is started first.`)
	p.section("APPLICATIONS")
	p.text(`'moss unit apply DIR' and 'moss unit install --application NAME' put files into a directory of the application's name below
yours. There apply has a file .moss-applied, which lists the files that it has put there. Those are replaced when they change,
and removed when they are gone from DIR; others are yours, and apply leaves them alone. Who removes .moss-applied makes all of
them their own. While it works, .moss-applying names the services that are to run in the end; an apply that finds that file
ends what another has begun that was interrupted, or could not make the services. 'moss unit rm --recursive NAME' removes the directory.`)
}

const unitExample = `# ~/.config/containers/systemd/web.container
[Unit]
Description=The web server

[Container]
Image=docker.io/library/nginx:1
PublishPort=8080:80
Network=app.network
Volume=site.volume:/usr/share/nginx/html:ro
HealthCmd=curl -f http://localhost/
Notify=healthy

[Service]
Restart=always

[Install]
WantedBy=default.target`

// unitTexts say what keys do that are no option, or more than one.
var unitTexts = [...]struct{ sections, key, text string }{
	{"Container", "SocketActivation", "[ADDRESS:]PORT of the host, which a PublishPort= is for, at its address: the service manager listens there, and the first client starts the service and waits for the program, and for its health check if it has one (HealthCmd=). The key is moss's own."},
	{"Container", "IdleStop", "The program is stopped when nobody has been connected for so long, as 5m or 90s, and started for the next client; no client is lost. It needs SocketActivation=, and is moss's own."},
	{"", "ContainersConfModule", "A module of containers.conf. moss has none: the service fails."},
	{"", "GlobalArgs", "Words that stand between moss and its command."},
	{"", "PodmanArgs", "Words that are added to the options: for what has no key."},
	{"", "ServiceName", "Name of the service, without .service."},
	{"", "RemapUsers", "Deprecated; use UserNS: manual, auto or keep-id."},
	{"", "RemapUid", "Deprecated: with RemapUsers=manual a map of user IDs, else an option of it."},
	{"", "RemapGid", "Deprecated: the same for groups."},
	{"", "RemapUidSize", "Deprecated: with RemapUsers=auto, how many IDs."},
	{"", "GIDMap", "As --gidmap."},
	{"", "SubGIDMap", "As --subgidname."},
	{"", "SubUIDMap", "As --subuidname."},
	{"", "UIDMap", "As --uidmap."},
	{"Container", "AutoUpdate", "When 'moss auto-update' takes a new image: registry or local."},
	{"Container", "ContainerName", "Name of the container; that of the service after systemd- by default. Two containers of one name are an error."},
	{"Container", "Exec", "The command in the container, with its arguments."},
	{"Container", "Group", "With User, the group."},
	{"Container", "Image", "The image, or the name of an .image or .build file."},
	{"Container", "Notify", "true: the program says that it is ready; healthy: its health check; by default it is when it has started."},
	{"Container", "Pod", "The .pod file of the pod that it is in."},
	{"Container", "ReloadCmd", "A command that is executed in the container for 'systemctl reload'."},
	{"Container", "ReloadSignal", "A signal that is sent to it instead."},
	{"Container", "Rootfs", "A directory in place of an image; as --rootfs."},
	{"Container", "StartWithPod", "Whether its pod starts it; true by default."},
	{"Container", "VolatileTmp", "Deprecated: a tmpfs at /tmp."},
	{"Container", "CgroupsMode", "As --cgroups; split by default, which keeps all processes in the service's cgroup."},
	{"Container", "AddDevice", "As --device. One that begins with - is left out where there is none."},
	{"Pod", "PodName", "Name of the pod; that of the file after systemd- by default."},
	{"Pod", "StopTimeout", "Seconds that its containers have to stop; 10 by default."},
	{"Pod", "PodmanArgs", "Words that are added to the options of pod create."},
	{"Kube", "AutoUpdate", "registry or local, or CONTAINER/registry: as the annotation io.containers.autoupdate."},
	{"Kube", "KubeDownForce", "Remove volumes too when it stops."},
	{"Kube", "SetWorkingDirectory", "yaml or unit: the directory of which file is the service's."},
	{"Kube", "Yaml", "The file with Kubernetes objects."},
	{"Network", "NetworkName", "Name of the network; that of the file after systemd- by default."},
	{"Network", "NetworkDeleteOnStop", "Remove the network when the service stops."},
	{"Network", "Gateway", "As --gateway, of the Subnet of the same place."},
	{"Network", "IPRange", "As --ip-range, of the Subnet of the same place."},
	{"Volume", "VolumeName", "Name of the volume; that of the file after systemd- by default."},
	{"Volume", "Copy", "Whether the first container fills it from its image."},
	{"Volume", "Device", "What is mounted: as --opt device=."},
	{"Volume", "Type", "As --opt type=; needs Device."},
	{"Volume", "Options", "As --opt o=."},
	{"Volume", "Image", "With Driver=image, which; moss has no such driver."},
	{"Volume", "User", "Number of the user who owns it, for file systems that take that option."},
	{"Volume", "Group", "Number of the group likewise."},
	{"Image", "Image", "What is pulled."},
	{"Image", "ImageTag", "What files that refer to this one call the image, where that is not its name."},
	{"Artifact", "Artifact", "What is pulled."},
	{"Build", "ImageTag", "Name of the image; the first one is what other files mean."},
	{"Build", "SetWorkingDirectory", "file or unit: the directory of which file is the context; or a path or an address that is it."},
}

// UnitKeyText says what a key of a section of quadlet files does; "" where nobody has
// written it down.
func UnitKeyText(section string, k quadlet.Key) string {
	for _, t := range unitTexts {
		if t.key == k.Name && (t.sections == "" || t.sections == section) {
			return t.text
		}
	}
	if k.Flag == "" {
		return ""
	}
	return "As " + k.Flag + "."
}
