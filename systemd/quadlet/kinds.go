package quadlet

import (
	"path/filepath"
	"slices"
	"strings"
)

// rule writes what a key means into the unit that is being made.
type rule func(m *maker, key, flag string)

// key is a key of a quadlet section.
type key struct {
	name string
	rule rule
	flag string
}

// kind is a kind of quadlet file.
type kind struct {
	ext     string // ".container"
	section string
	suffix  string // of the service's name
	keys    []key
	// naming are the keys that say what its resource is called in moss, before specifiers.
	naming [2]string
}

// kinds are all of them. Keys stand in the order of the command line that they make.
func kinds() []*kind {
	return []*kind{&containers, &pods, &kubes, &networks, &volumes, &images, &builds, &artifacts}
}

// kindOf is the kind of a file's name; nil if it is no quadlet file.
func kindOf(name string) *kind {
	ext := filepath.Ext(name)
	for _, k := range kinds() {
		if k.ext == ext && len(name) > len(ext) {
			return k
		}
	}
	return nil
}

// extensions are those of the kinds.
var extensions = [...]string{".container", ".pod", ".kube", ".network", ".volume", ".image", ".build", ".artifact"}

// IsQuadlet says whether a file with this name is a quadlet file.
func IsQuadlet(name string) bool {
	ext := filepath.Ext(name)
	return len(name) > len(ext) && slices.Contains(extensions[:], ext)
}

func (k *kind) names() (out []string) {
	for _, key := range k.keys {
		out = append(out, key.name)
	}
	return out
}

// other is a key that another part of the conversion reads.
func other(*maker, string, string) {}

var containers = kind{ext: ".container", section: "Container", naming: [2]string{"ContainerName"}, keys: []key{
	{"ContainerName", other, ""}, {"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""},
	{"ReloadCmd", other, ""}, {"ReloadSignal", other, ""}, {"StartWithPod", boolean, ""}, {"Notify", other, ""},
	{"LogDriver", one, "--log-driver"},
	{"LogOpt", eachWord, "--log-opt"},
	{"CgroupsMode", cgroups, "--cgroups"},
	{"Entrypoint", joined, "--entrypoint"},
	{"Timezone", one, "--tz"},
	{"PidsLimit", one, "--pids-limit"},
	{"ShmSize", one, "--shm-size"},
	{"WorkingDir", one, "--workdir"},
	{"IP", one, "--ip"},
	{"IP6", one, "--ip6"},
	{"HostName", one, "--hostname"},
	{"StopSignal", one, "--stop-signal"},
	{"StopTimeout", one, "--stop-timeout"},
	{"Pull", one, "--pull"},
	{"Memory", one, "--memory"},
	{"Retry", one, "--retry"},
	{"RetryDelay", one, "--retry-delay"},
	{"NetworkAlias", each, "--network-alias"},
	{"Ulimit", each, "--ulimit"},
	{"DNS", each, "--dns"},
	{"DNSOption", each, "--dns-option"},
	{"DNSSearch", each, "--dns-search"},
	{"GroupAdd", each, "--group-add"},
	{"AddHost", each, "--add-host"},
	{"Tmpfs", each, "--tmpfs"},
	{"RunInit", boolean, "--init"},
	{"EnvironmentHost", boolean, "--env-host"},
	{"HttpProxy", boolean, "--http-proxy"},
	{"ReadOnlyTmpfs", boolean, "--read-only-tmpfs"},
	{"Network", network, "--network"},
	{"NoNewPrivileges", ifTrue, "--security-opt=no-new-privileges"},
	{"SecurityLabelDisable", ifTrue, "--security-opt label=disable"},
	{"SecurityLabelNested", ifTrue, "--security-opt label=nested"},
	{"SecurityLabelType", security, "label=type:"},
	{"SecurityLabelFileType", security, "label=filetype:"},
	{"SecurityLabelLevel", security, "label=level:"},
	{"AppArmor", security, "apparmor="},
	{"AddDevice", device, "--device"},
	{"SeccompProfile", security, "seccomp="},
	{"DropCapability", capability, "--cap-drop"},
	{"AddCapability", capability, "--cap-add"},
	{"Sysctl", eachWord, "--sysctl"},
	{"ReadOnly", boolean, "--read-only"},
	{"VolatileTmp", volatileTmp, "--tmpfs"},
	{"User", user, "--user"}, {"Group", other, ""},
	{"UserNS", mapping, "--userns"}, {"UIDMap", other, ""}, {"GIDMap", other, ""}, {"SubUIDMap", other, ""}, {"SubGIDMap", other, ""},
	{"RemapUsers", other, ""}, {"RemapUid", other, ""}, {"RemapGid", other, ""}, {"RemapUidSize", other, ""},
	{"Volume", volume, "-v"},
	{"AutoUpdate", autoUpdate, "--label"},
	{"ExposeHostPort", expose, "--expose"},
	{"PublishPort", each, "--publish"},
	{"SocketActivation", sockets, "--wake"},
	{"IdleStop", idleStop, "--idle"},
	{"Environment", pairs, "--env"},
	{"Label", pairs, "--label"},
	{"Annotation", pairs, "--annotation"},
	{"Mask", securityWords, "mask="},
	{"Unmask", securityWords, "unmask="},
	{"EnvironmentFile", pathArgs, "--env-file"},
	{"Secret", eachArg, "--secret"},
	{"Mount", mount, "--mount"},
	{"HealthCmd", one, "--health-cmd"},
	{"HealthInterval", one, "--health-interval"},
	{"HealthOnFailure", one, "--health-on-failure"},
	{"HealthLogDestination", one, "--health-log-destination"},
	{"HealthMaxLogCount", one, "--health-max-log-count"},
	{"HealthMaxLogSize", one, "--health-max-log-size"},
	{"HealthRetries", one, "--health-retries"},
	{"HealthStartPeriod", one, "--health-start-period"},
	{"HealthTimeout", one, "--health-timeout"},
	{"HealthStartupCmd", one, "--health-startup-cmd"},
	{"HealthStartupInterval", one, "--health-startup-interval"},
	{"HealthStartupRetries", one, "--health-startup-retries"},
	{"HealthStartupSuccess", one, "--health-startup-success"},
	{"HealthStartupTimeout", one, "--health-startup-timeout"},
	{"Pod", pod, "--pod"},
	{"PodmanArgs", eachArg, ""},
	{"Image", image, ""},
	{"Rootfs", one, "--rootfs"},
	{"Exec", program, ""},
}}

var pods = kind{ext: ".pod", section: "Pod", suffix: "-pod", naming: [2]string{"PodName"}, keys: []key{
	{"PodName", other, ""}, {"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""}, {"StopTimeout", other, ""},
	{"ExitPolicy", exitPolicy, "--exit-policy"},
	{"UserNS", mapping, "--userns"}, {"UIDMap", other, ""}, {"GIDMap", other, ""}, {"SubUIDMap", other, ""}, {"SubGIDMap", other, ""},
	{"RemapUsers", other, ""}, {"RemapUid", other, ""}, {"RemapGid", other, ""}, {"RemapUidSize", other, ""},
	{"PublishPort", each, "--publish"},
	{"Label", pairs, "--label"},
	{"Network", network, "--network"},
	{"IP", one, "--ip"},
	{"IP6", one, "--ip6"},
	{"ShmSize", one, "--shm-size"},
	{"NetworkAlias", each, "--network-alias"},
	{"DNS", each, "--dns"},
	{"DNSOption", each, "--dns-option"},
	{"DNSSearch", each, "--dns-search"},
	{"AddHost", each, "--add-host"},
	{"HostName", one, "--hostname"},
	{"Volume", volume, "-v"},
	{"PodmanArgs", podArgs, ""},
}}

var kubes = kind{ext: ".kube", section: "Kube", keys: []key{
	{"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""}, {"KubeDownForce", boolean, ""}, {"SetWorkingDirectory", other, ""},
	{"ExitCodePropagation", joined, "--service-exit-code-propagation"},
	{"LogDriver", one, "--log-driver"},
	{"LogOpt", eachWord, "--log-opt"},
	{"UserNS", mapping, "--userns"},
	{"RemapUsers", other, ""}, {"RemapUid", other, ""}, {"RemapGid", other, ""}, {"RemapUidSize", other, ""},
	{"Network", network, "--network"},
	{"AutoUpdate", autoUpdateKube, "--annotation"},
	{"ConfigMap", pathWords, "--configmap"},
	{"PublishPort", each, "--publish"},
	{"PodmanArgs", eachArg, ""},
	{"Yaml", pathWords, ""},
}}

var networks = kind{ext: ".network", section: "Network", suffix: "-network", naming: [2]string{"NetworkName"}, keys: []key{
	{"NetworkName", other, ""}, {"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""}, {"NetworkDeleteOnStop", boolean, ""},
	{"DisableDNS", boolean, "--disable-dns"},
	{"Internal", boolean, "--internal"},
	{"IPv6", boolean, "--ipv6"},
	{"Driver", one, "--driver"},
	{"IPAMDriver", one, "--ipam-driver"},
	{"InterfaceName", one, "--interface-name"},
	{"DNS", each, "--dns"},
	{"Subnet", subnet, "--subnet"}, {"Gateway", other, ""}, {"IPRange", other, ""},
	{"Options", pairs, "--opt"},
	{"Label", pairs, "--label"},
	{"PodmanArgs", eachArg, ""},
}}

var volumes = kind{ext: ".volume", section: "Volume", suffix: "-volume", naming: [2]string{"VolumeName"}, keys: []key{
	{"VolumeName", other, ""}, {"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""},
	{"UID", one, "--uid"},
	{"GID", one, "--gid"},
	{"Driver", one, "--driver"},
	{"Copy", copyUp, "--opt"},
	{"Device", volumeOptions, "--opt"}, {"Image", other, ""}, {"Type", other, ""}, {"Options", other, ""}, {"User", other, ""}, {"Group", other, ""},
	{"Label", pairs, "--label"},
	{"PodmanArgs", eachArg, ""},
}}

var images = kind{ext: ".image", section: "Image", suffix: "-image", naming: [2]string{"ImageTag", "Image"}, keys: []key{
	{"ImageTag", other, ""}, {"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""},
	{"Arch", one, "--arch"},
	{"AuthFile", one, "--authfile"},
	{"CertDir", one, "--cert-dir"},
	{"Creds", one, "--creds"},
	{"DecryptionKey", one, "--decryption-key"},
	{"OS", one, "--os"},
	{"Policy", one, "--policy"},
	{"Variant", one, "--variant"},
	{"Retry", one, "--retry"},
	{"RetryDelay", one, "--retry-delay"},
	{"AllTags", boolean, "--all-tags"},
	{"TLSVerify", boolean, "--tls-verify"},
	{"PodmanArgs", eachArg, ""},
	{"Image", one, ""},
}}

var artifacts = kind{ext: ".artifact", section: "Artifact", suffix: "-artifact", naming: [2]string{"Artifact"}, keys: []key{
	{"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""},
	{"AuthFile", one, "--authfile"},
	{"CertDir", one, "--cert-dir"},
	{"Creds", one, "--creds"},
	{"DecryptionKey", one, "--decryption-key"},
	{"Retry", one, "--retry"},
	{"RetryDelay", one, "--retry-delay"},
	{"Quiet", boolean, "--quiet"},
	{"TLSVerify", boolean, "--tls-verify"},
	{"PodmanArgs", eachArg, ""},
	{"Artifact", one, ""},
}}

var builds = kind{ext: ".build", section: "Build", suffix: "-build", naming: [2]string{"ImageTag"}, keys: []key{
	{"ServiceName", other, ""}, {"ContainersConfModule", other, ""}, {"GlobalArgs", other, ""}, {"SetWorkingDirectory", other, ""},
	{"Pull", joined, "--pull"},
	{"Arch", one, "--arch"},
	{"AuthFile", one, "--authfile"},
	{"IgnoreFile", one, "--ignorefile"},
	{"Target", one, "--target"},
	{"Variant", one, "--variant"},
	{"Retry", one, "--retry"},
	{"RetryDelay", one, "--retry-delay"},
	{"TLSVerify", boolean, "--tls-verify"},
	{"ForceRM", boolean, "--force-rm"},
	{"DNS", each, "--dns"},
	{"DNSOption", each, "--dns-option"},
	{"DNSSearch", each, "--dns-search"},
	{"GroupAdd", each, "--group-add"},
	{"ImageTag", each, "--tag"},
	{"BuildArg", pairs, "--build-arg"},
	{"Environment", pairs, "--env"},
	{"Label", pairs, "--label"},
	{"Annotation", pairs, "--annotation"},
	{"Network", network, "--network"},
	{"Secret", eachArg, "--secret"},
	{"Volume", volume, "-v"},
	{"File", one, "--file"},
	{"PodmanArgs", eachArg, ""},
}}

// Section is a section of quadlet files, for its manual.
type Section struct {
	Name, Ext, Suffix string
	Keys              []Key
}

// Key is a key of a section, and the option that it becomes; "" where it is more than
// that.
type Key struct{ Name, Flag string }

// Sections are those of all kinds of files, their keys by name.
func Sections() (out []Section) {
	for _, k := range kinds() {
		s := Section{Name: k.section, Ext: k.ext, Suffix: k.suffix}
		for _, key := range k.keys {
			flag := key.flag
			switch {
			case flag == "-v":
				flag = "--volume"
			case flag != "" && flag[0] != '-':
				flag = "--security-opt " + flag
			}
			s.Keys = append(s.Keys, Key{key.name, flag})
		}
		slices.SortFunc(s.Keys, func(a, b Key) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, s)
	}
	return out
}
