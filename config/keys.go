package config

import "strings"

// Kind is what values a key takes.
type Kind byte

// The kinds. A Switch is a Bool that may be written as a string, as in storage.conf.
const (
	String Kind = iota
	Bool
	Switch
	Int
	List
)

// Key is one that a file may set.
type Key struct {
	Name string // a last part of * stands for every name in that table
	Kind Kind
	// Default is what moss does if no file sets it, for people to read.
	Default string
	// Useless says why the key has no effect, if it has none.
	Useless string
}

const (
	noConmon    = "moss has a monitor of its own"
	noLibpod    = "moss keeps its records in its own directory: see --root and --runroot"
	noPods      = "moss has no pods"
	noRemote    = "moss talks to no service"
	noPush      = "a layer is pushed in one compression"
	noLibrary   = "moss keeps images in a store of its own"
	noNetavark  = "moss connects containers itself"
	noBuild     = "moss builds no images"
	noMachine   = "moss needs no virtual machine"
	noSELinux   = "moss gives no confined SELinux users"
	noDBLocks   = "moss needs no database and no numbered locks"
	noInfra     = "a pod needs no infra container in moss"
	notOurStore = "it is about podman's own store, which moss only reads"
)

// Keys are all that moss knows, in the order of the manual pages.
var Keys = [...]Key{
	{Name: "containers.annotations", Kind: List},
	{Name: "containers.apparmor_profile", Default: "none"},
	{Name: "containers.base_hosts_file"},
	{Name: "containers.cgroup_conf", Kind: List},
	{Name: "containers.cgroupns", Default: "private"},
	{Name: "containers.cgroups", Default: "enabled"},
	{Name: "containers.container_name_as_hostname", Kind: Bool, Default: "false"},
	{Name: "containers.default_capabilities", Kind: List},
	{Name: "containers.default_sysctls", Kind: List},
	{Name: "containers.default_ulimits", Kind: List},
	{Name: "containers.devices", Kind: List},
	{Name: "containers.dns_options", Kind: List},
	{Name: "containers.dns_searches", Kind: List},
	{Name: "containers.dns_servers", Kind: List},
	{Name: "containers.enable_keyring", Kind: Bool, Useless: "its name is keyring"},
	{Name: "containers.enable_labeling", Kind: Bool, Useless: "its name is label"},
	{Name: "containers.env", Kind: List},
	{Name: "containers.env_host", Kind: Bool, Default: "false"},
	{Name: "containers.host_containers_internal_ip"},
	{Name: "containers.http_proxy", Kind: Bool, Default: "true"},
	{Name: "containers.init", Kind: Bool, Default: "false"},
	{Name: "containers.init_path"},
	{Name: "containers.interface_name", Useless: "the interfaces of a container are eth0, eth1 and so on"},
	{Name: "containers.ipcns", Default: "shareable"},
	{Name: "containers.keyring", Kind: Bool, Useless: "moss makes no keyring"},
	{Name: "containers.label", Kind: Bool, Default: "true"},
	{Name: "containers.label_users", Kind: Bool, Useless: noSELinux},
	{Name: "containers.log_driver", Default: "k8s-file"},
	{Name: "containers.log_path"},
	{Name: "containers.log_size_max", Kind: Int},
	{Name: "containers.log_tag"},
	{Name: "containers.mounts", Kind: List},
	{Name: "containers.netns", Default: "bridge"},
	{Name: "containers.no_hosts", Kind: Bool, Default: "false"},
	{Name: "containers.oom_score_adj", Kind: Int},
	{Name: "containers.pidns", Default: "private"},
	{Name: "containers.pids_limit", Kind: Int, Default: "2048"},
	{Name: "containers.prepare_volume_on_create", Kind: Bool, Useless: "a new volume is filled when its container starts"},
	{Name: "containers.privileged", Kind: Bool, Default: "false"},
	{Name: "containers.read_only", Kind: Bool, Default: "false"},
	{Name: "containers.rootless_networking", Useless: "it is of podman 3; netns took its place"},
	{Name: "containers.seccomp_profile"},
	{Name: "containers.shm_size", Default: "65536k"},
	{Name: "containers.tz"},
	{Name: "containers.umask", Default: "0022"},
	{Name: "containers.userns", Default: "host"},
	{Name: "containers.userns_size", Kind: Int, Useless: "it is of podman 3; --userns auto:size= took its place"},
	{Name: "containers.utsns", Default: "private"},
	{Name: "containers.volumes", Kind: List},

	{Name: "engine.active_service", Useless: noRemote},
	{Name: "engine.add_compression", Kind: List, Useless: noPush},
	{Name: "engine.cdi_spec_dirs", Kind: List, Default: "/etc/cdi /var/run/cdi"},
	{Name: "engine.cgroup_manager", Default: "systemd"},
	{Name: "engine.chown_copied_files", Kind: Bool, Default: "true"},
	{Name: "engine.compat_api_enforce_docker_hub", Kind: Bool, Useless: noRemote},
	{Name: "engine.compose_providers", Kind: List, Useless: "moss has no compose"},
	{Name: "engine.compose_warning_logs", Kind: Bool, Useless: "moss has no compose"},
	{Name: "engine.compression_format", Default: "gzip"},
	{Name: "engine.compression_level", Kind: Int},
	{Name: "engine.conmon_env_vars", Kind: List, Useless: noConmon},
	{Name: "engine.conmon_path", Kind: List, Useless: noConmon},
	{Name: "engine.conmonrs_path", Kind: List, Useless: noConmon},
	{Name: "engine.database_backend", Useless: noDBLocks},
	{Name: "engine.detach_keys", Default: "ctrl-p,ctrl-q"},
	{Name: "engine.enable_port_reservation", Kind: Bool, Useless: "moss-net holds every published port"},
	{Name: "engine.env", Kind: List},
	{Name: "engine.events_container_create_inspect_data", Kind: Bool, Useless: "moss inspect shows it"},
	{Name: "engine.events_logfile_max_size", Useless: "the log of events makes way for a new one at 8 MiB"},
	{Name: "engine.events_logfile_path", Useless: "the log of events is in the directory of --root"},
	{Name: "engine.events_logger", Default: "file"},
	{Name: "engine.exit_command_delay", Kind: Int, Useless: "a monitor removes the session of an exec itself"},
	{Name: "engine.force_port_listen", Kind: Bool, Useless: "moss-net listens on every published port"},
	{Name: "engine.healthcheck_events", Kind: Bool, Default: "true"},
	{Name: "engine.helper_binaries_dir", Kind: List, Useless: "moss finds its helpers beside itself; see MOSS_LIBEXEC"},
	{Name: "engine.hooks_dir", Kind: List},
	{Name: "engine.image_build_format", Useless: noBuild},
	{Name: "engine.image_copy_tmp_dir", Useless: "moss copies beside its store, where no second copy is needed"},
	{Name: "engine.image_default_format", Useless: "an image is pushed in the format that it has; see push --format"},
	{Name: "engine.image_default_transport", Useless: "moss pulls from registries: docker://"},
	{Name: "engine.image_parallel_copies", Kind: Int, Default: "6"},
	{Name: "engine.image_volume_mode", Default: "anonymous"},
	{Name: "engine.infra_command", Useless: noInfra},
	{Name: "engine.infra_image", Useless: noInfra},
	{Name: "engine.init_path"},
	{Name: "engine.kube_generate_type", Useless: noPods},
	{Name: "engine.lock_type", Useless: noDBLocks},
	{Name: "engine.machine_enabled", Kind: Bool, Useless: noMachine},
	{Name: "engine.multi_image_archive", Kind: Bool, Useless: "moss save writes every image that is named"},
	{Name: "engine.namespace", Useless: "every container of a user is in one namespace"},
	{Name: "engine.network_cmd_options", Kind: List},
	{Name: "engine.network_cmd_path", Useless: "moss finds slirp4netns in PATH"},
	{Name: "engine.no_pivot_root", Kind: Bool, Useless: "moss pivots into a mount that it makes for that"},
	{Name: "engine.num_locks", Kind: Int, Useless: noDBLocks},
	{Name: "engine.platform_to_oci_runtime.*"},
	{Name: "engine.pod_exit_policy", Useless: noPods},
	{Name: "engine.pull_policy", Default: "missing"},
	{Name: "engine.remote", Kind: Bool, Useless: noRemote},
	{Name: "engine.remote_identity", Useless: noRemote},
	{Name: "engine.remote_uri", Useless: noRemote},
	{Name: "engine.retry", Kind: Int, Default: "3"},
	{Name: "engine.retry_delay"},
	{Name: "engine.runtime", Default: "moss-runtime"},
	{Name: "engine.runtime_supports_json", Kind: List, Useless: "moss reads what a runtime says whatever its format"},
	{Name: "engine.runtime_supports_kvm", Kind: List, Useless: "moss asks for no KVM separation"},
	{Name: "engine.runtime_supports_nocgroups", Kind: List, Useless: "moss makes the cgroup itself"},
	{Name: "engine.runtimes.*", Kind: List},
	{Name: "engine.runtimes_flags.*", Kind: List, Useless: "moss calls a runtime with the flags that it needs"},
	{Name: "engine.service_destinations.*", Useless: noRemote},
	{Name: "engine.service_timeout", Kind: Int, Useless: noRemote},
	{Name: "engine.static_dir", Useless: noLibpod},
	{Name: "engine.stop_timeout", Kind: Int, Default: "10"},
	{Name: "engine.tmp_dir", Useless: noLibpod},
	{Name: "engine.volume_path", Useless: "it is of podman's volumes; --volumepath and MOSS_VOLUMES say where moss has its own"},
	{Name: "engine.volume_plugins.*", Useless: "moss has no volume plugins"},
	{Name: "engine.volume_plugin_timeout", Kind: Int, Useless: "moss has no volume plugins"},

	{Name: "network.cni_plugin_dirs", Kind: List, Useless: noNetavark},
	{Name: "network.default_host_ips", Kind: List},
	{Name: "network.default_network", Default: "moss"},
	{Name: "network.default_rootless_network_cmd"},
	{Name: "network.default_subnet"},
	{Name: "network.default_subnet_pools", Kind: List, Useless: "moss has one network, which gets default_subnet"},
	{Name: "network.dns_bind_port", Kind: Int, Useless: "moss answers names in a network namespace of its own, where port 53 is free"},
	{Name: "network.firewall_driver", Useless: noNetavark},
	{Name: "network.netavark_plugin_dirs", Kind: List, Useless: noNetavark},
	{Name: "network.network_backend", Useless: noNetavark},
	{Name: "network.network_config_dir"},
	{Name: "network.pasta_options", Kind: List},
	{Name: "network.rootless_port_forwarder", Useless: noNetavark},

	{Name: "secrets.driver", Default: "file"},
	{Name: "secrets.opts.*", Useless: "options of a driver are given to secret create --driver-opts"},

	{Name: "configmaps.*", Useless: noPods},
	{Name: "machine.*", Useless: noMachine},
	{Name: "farms.*", Useless: noRemote},
	{Name: "podmansh.*", Useless: "it is for podmansh"},

	{Name: "storage.driver", Useless: "moss takes native overlay where the kernel has it, else fuse-overlayfs, else copies"},
	{Name: "storage.driver_priority", Kind: List, Useless: noLibrary},
	{Name: "storage.graphroot"},
	{Name: "storage.imagestore"},
	{Name: "storage.max_size"},
	{Name: "storage.rootless_storage_path"},
	{Name: "storage.runroot", Useless: notOurStore},
	{Name: "storage.transient_store", Kind: Switch, Useless: notOurStore},
	{Name: "storage.options.additionalimagestores", Kind: List},
	{Name: "storage.options.*", Useless: notOurStore},

	{Name: "registries.unqualified-search-registries", Kind: List, Default: "docker.io"},
	{Name: "registries.short-name-mode", Default: "permissive"},
	{Name: "registries.credential-helpers", Kind: List},
	{Name: "registries.additional-layer-store-auth-helper", Useless: "moss has no additional layer stores"},
	{Name: "registries.aliases.*"},
	{Name: "registries.registry[*"},

	{Name: "moss.log_level", Default: "warn"},
	{Name: "moss.low_ports", Default: "refuse"},
	{Name: "moss.no_new_privileges", Kind: Bool, Default: "false"},
	{Name: "moss.podman_images", Kind: Bool, Default: "true"},
	{Name: "moss.root"},
	{Name: "moss.shell_image", Default: "localhost/moss/box"},
	{Name: "moss.stall_timeout", Kind: Int, Default: "60"},
	{Name: "moss.trusted_realms", Kind: List},
	{Name: "moss.unpack_max_depth", Kind: Int, Default: "512"},
	{Name: "moss.unpack_max_files", Kind: Int, Default: "500000"},
	{Name: "moss.unpack_max_size", Kind: Int, Default: "1099511627776"},
	{Name: "moss.unpack_max_window", Kind: Int, Default: "33554432"},
}

// Lookup returns what is known of a key, nil if nothing is.
func Lookup(name string) *Key {
	for i := range Keys {
		k := &Keys[i]
		if table, ok := strings.CutSuffix(k.Name, "*"); k.Name == name || ok && strings.HasPrefix(name, table) {
			return k
		}
	}
	return nil
}
