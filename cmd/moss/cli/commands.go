package cli

import (
	"fmt"
	"strings"

	"moss/systemd/quadlet"
)

// entry is one command of the table. The table, not kong, finds the command:
// only that one's grammar is then built.
type entry struct {
	Name    string // as in "volume create"
	Aliases []string
	Usage   string // what follows the name and [FLAGS] on the command line
	Help    string // one line
	Group   string
	New     func() command
	Host    bool // runs outside of the namespaces, without an Engine
	Streams bool // deals with signals itself
	Hidden  bool
	Text    string // further paragraphs
	Example string
}

const (
	groupContainers = "Containers"
	groupImages     = "Images"
	groupUnits      = "Units of systemd"
	groupOthers     = "Volumes, networks and the rest"
)

// commands is every command of moss, in the order of the help. "container X" and
// "image X" are aliases, as with podman and Docker.
var commands = [...]entry{
	{Name: "run", Aliases: []string{"container run"}, Usage: "IMAGE [COMMAND [ARG...]]", Group: groupContainers, Streams: true,
		Help: "Create a container, start it and stay with it", New: func() command { return new(RunCmd) }, Text: textRun,
		Example: "moss run --rm -it docker.io/library/debian\nmoss run -d --name web -p 8080:80 docker.io/library/nginx\nmoss run --rm -v .:/src -w /src docker.io/library/golang go test ./..."},
	{Name: "create", Aliases: []string{"container create"}, Usage: "IMAGE [COMMAND [ARG...]]", Group: groupContainers,
		Help: "Create a container without starting it", New: func() command { return new(CreateCmd) }, Text: textFlagsFirst + textWake,
		Example: "moss create --name db -v data:/var/lib/postgresql docker.io/library/postgres\nmoss start db"},
	{Name: "start", Aliases: []string{"container start"}, Usage: "CONTAINER...", Group: groupContainers, Streams: true,
		Help: "Start containers", New: func() command { return new(StartCmd) }},
	{Name: "attach", Aliases: []string{"container attach"}, Usage: "CONTAINER", Group: groupContainers, Streams: true,
		Help: "Join the streams of a running container", New: func() command { return new(AttachCmd) },
		Text: "The detach keys, ctrl-p ctrl-q, leave a container with a terminal running."},
	{Name: "exec", Aliases: []string{"container exec"}, Usage: "CONTAINER COMMAND [ARG...]", Group: groupContainers, Streams: true,
		Help: "Run one more program in a running container", New: func() command { return new(ExecCmd) }, Text: textExec,
		Example: "moss exec -it web sh"},
	{Name: "shell", Aliases: []string{"container shell"}, Usage: "CONTAINER", Group: groupContainers, Streams: true,
		Help: "Open a shell with tools in a container that has none", New: func() command { return new(ShellCmd) }, Text: textShell,
		Example: "moss shell web\nmoss shell --image docker.io/library/busybox web\nmoss shell web -c 'ls -l /proc/1/root'"},
	{Name: "ps", Aliases: []string{"container ls", "container list", "container ps"}, Group: groupContainers,
		Help: "List containers", New: func() command { return new(PsCmd) }, Text: textPs,
		Example: "moss ps --all\nmoss ps --filter status=exited --format '{{.Names}} {{.Status}}'"},
	{Name: "logs", Aliases: []string{"container logs"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Show what containers wrote", New: func() command { return new(LogsCmd) }, Example: "moss logs --follow --tail 20 web"},
	{Name: "stop", Aliases: []string{"container stop"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Stop containers", New: func() command { return new(StopCmd) },
		Text: "The program gets its stop signal, SIGTERM unless the image says otherwise, and SIGKILL if it is still there after the timeout."},
	{Name: "kill", Aliases: []string{"container kill"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Send a signal to containers", New: func() command { return new(KillCmd) }},
	{Name: "restart", Aliases: []string{"container restart"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Stop containers and start them again", New: func() command { return new(RestartCmd) }},
	{Name: "pause", Aliases: []string{"container pause"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Freeze the processes of containers", New: func() command { return new(PauseCmd) }},
	{Name: "unpause", Aliases: []string{"container unpause"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Thaw the processes of containers", New: func() command { return new(UnpauseCmd) }},
	{Name: "rm", Aliases: []string{"container rm"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Remove containers", New: func() command { return new(RmCmd) }},
	{Name: "wait", Aliases: []string{"container wait"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Wait for containers and print their exit codes", New: func() command { return new(WaitCmd) }},
	{Name: "inspect", Usage: "NAME...", Group: groupContainers,
		Help: "Show everything about containers, images, volumes or networks", New: func() command { return new(InspectCmd) },
		Example: "moss inspect --format '{{.State.Status}}' web"},
	{Name: "container inspect", Usage: "CONTAINER...", Hidden: true,
		Help: "Show everything about containers", New: func() command { return &InspectCmd{kind: "container"} }},
	{Name: "port", Aliases: []string{"container port"}, Usage: "[CONTAINER [PORT[/PROTO]]]", Group: groupContainers,
		Help: "List published ports", New: func() command { return new(PortCmd) }},
	{Name: "top", Aliases: []string{"container top"}, Usage: "CONTAINER [DESCRIPTOR...]", Group: groupContainers,
		Help: "List the processes of a container", New: func() command { return new(TopCmd) }, Text: textTop},
	{Name: "rename", Aliases: []string{"container rename"}, Usage: "CONTAINER NAME", Group: groupContainers,
		Help: "Give a container another name", New: func() command { return new(RenameCmd) },
		Text: "The commands of a systemd unit that has made the container, such as ExecStop=, go on to find it by the name that they gave it."},
	{Name: "stats", Aliases: []string{"container stats"}, Usage: "[CONTAINER...]", Group: groupContainers,
		Help: "Show what containers use: CPU, memory, network, disk", New: func() command { return new(StatsCmd) }, Text: textStats,
		Example: "moss stats\nmoss stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.MemUsage}}'"},
	{Name: "update", Aliases: []string{"container update"}, Usage: "CONTAINER", Group: groupContainers,
		Help: "Change limits, restart policy and health check of a container", New: func() command { return new(UpdateCmd) }, Text: textUpdate,
		Example: "moss update --memory 512m --cpus 1.5 web\nmoss update --restart unless-stopped web"},
	{Name: "healthcheck run", Usage: "CONTAINER", Group: groupContainers,
		Help: "Check the health of a container now", New: func() command { return new(HealthcheckRunCmd) }, Text: textHealthcheck},
	{Name: "cp", Aliases: []string{"container cp"}, Usage: "[CONTAINER:]SOURCE [CONTAINER:]DEST", Group: groupContainers, Streams: true,
		Help: "Copy files between a container and the host, or another container", New: func() command { return new(CpCmd) }, Text: textCp,
		Example: "moss cp site/. web:/usr/share/nginx/html\nmoss cp web:/etc/nginx/nginx.conf .\nmoss cp web:/var/log - | tar t"},
	{Name: "init", Aliases: []string{"container init"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Make everything of containers but start their programs", New: func() command { return new(InitCmd) },
		Text:    "Namespaces, mounts and network are there, and can be looked at; 'moss start' executes the program. Until then the status is initialized.",
		Example: "moss create --name web docker.io/library/nginx\nmoss init web\nmoss start web"},
	{Name: "container clone", Usage: "CONTAINER [NAME [IMAGE]]", Group: groupContainers,
		Help: "Create a container like another one", New: func() command { return new(CloneCmd) },
		Text:    "The clone has the flags and the named volumes of the original, and nothing of what it has written. It gets anonymous volumes and addresses of its own.",
		Example: "moss container clone --memory 1g web\nmoss container clone --destroy --force --run web web2 docker.io/library/nginx:alpine"},
	{Name: "container prune", Group: groupContainers,
		Help: "Remove all containers that do not run", New: func() command { return new(ContainerPruneCmd) }, Example: "moss container prune --force --filter until=24h"},
	{Name: "container runlabel", Usage: "LABEL IMAGE [ARG...]", Group: groupContainers,
		Help: "Run the command in a label of an image", New: func() command { return new(RunlabelCmd) }, Text: textRunlabel,
		Example: "moss container runlabel --display run localhost/app"},
	{Name: "commit", Aliases: []string{"container commit"}, Usage: "CONTAINER [IMAGE]", Group: groupContainers,
		Help: "Make an image of a container", New: func() command { return new(CommitCmd) }, Text: textCommit,
		Example: "moss commit --change 'CMD [\"nginx\"]' web localhost/web:new"},
	{Name: "diff", Usage: "CONTAINER|IMAGE [CONTAINER|IMAGE]", Group: groupContainers,
		Help: "List what a container has changed about its image, or an image about the one below", New: func() command { return new(DiffCmd) }, Text: textDiff},
	{Name: "container diff", Usage: "CONTAINER", Hidden: true,
		Help: "List what a container has changed about its image", New: func() command { return &DiffCmd{kind: "container"} }, Text: textDiff},
	{Name: "image diff", Usage: "IMAGE [IMAGE]", Hidden: true,
		Help: "List what an image changes about the one below, or another", New: func() command { return &DiffCmd{kind: "image"} }, Text: textDiff},
	{Name: "export", Aliases: []string{"container export"}, Usage: "CONTAINER", Group: groupContainers, Streams: true,
		Help: "Write the root file system of a container as a tar archive", New: func() command { return new(ExportCmd) },
		Text: "What is in volumes and other mounts is left out. The container may run or not.", Example: "moss export --output web.tar web\nmoss export web | moss import - web:flat"},
	{Name: "mount", Aliases: []string{"container mount"}, Usage: "[CONTAINER...]", Group: groupContainers,
		Help: "Mount the root file systems of containers, or list those that are", New: func() command { return new(MountCmd) }, Text: textMount,
		Example: "moss unshare sh -c 'ls \"$(moss mount web)\"; moss unmount web'"},
	{Name: "unmount", Aliases: []string{"umount", "container unmount", "container umount"}, Usage: "CONTAINER...", Group: groupContainers,
		Help: "Undo moss mount", New: func() command { return new(UnmountCmd) }},
	{Name: "container exists", Usage: "CONTAINER", Hidden: true,
		Help: "Say by the exit code whether a container exists", New: func() command { return new(ContainerExistsCmd) }},

	{Name: "pull", Aliases: []string{"image pull"}, Usage: "IMAGE...", Group: groupImages,
		Help: "Get images from a registry", New: func() command { return new(PullCmd) }},
	{Name: "push", Aliases: []string{"image push"}, Usage: "IMAGE [DESTINATION]", Group: groupImages,
		Help: "Send an image to a registry", New: func() command { return new(PushCmd) }},
	{Name: "login", Usage: "[REGISTRY]", Group: groupImages, Host: true,
		Help: "Keep a name and a password for a registry", New: func() command { return new(LoginCmd) }, Text: textLogin,
		Example: "moss login --username ann docker.io\nprintf %s \"$TOKEN\" | moss login --username ann --password-stdin registry.example.com/team"},
	{Name: "logout", Usage: "[REGISTRY]", Group: groupImages, Host: true,
		Help: "Forget the name and the password for a registry", New: func() command { return new(LogoutCmd) }},
	{Name: "search", Aliases: []string{"image search"}, Usage: "TERM", Group: groupImages, Host: true,
		Help: "Look for images in registries", New: func() command { return new(SearchCmd) }, Text: textSearch,
		Example: "moss search --filter is-official nginx\nmoss search --list-tags --limit 100 docker.io/library/debian"},
	{Name: "image sign", Usage: "[IMAGE...]", Group: groupImages,
		Help: "Sign images in a registry with a key of sigstore", New: func() command { return new(SignCmd) }, Text: textSign,
		Example: "moss image sign --new-key ~/mine\nmoss image sign --sign-by-sigstore-private-key ~/mine.private registry.example.com/app:1"},
	{Name: "image trust set", Usage: "SCOPE", Group: groupImages,
		Help: "Say which images may be pulled", New: func() command { return new(TrustSetCmd) }, Text: textTrust,
		Example: "moss image trust set --type reject default\nmoss image trust set --type sigstoreSigned --pubkeysfile ~/mine.pub registry.example.com"},
	{Name: "image trust show", Usage: "[SCOPE]", Group: groupImages,
		Help: "Show which images may be pulled", New: func() command { return new(TrustShowCmd) }, Text: textTrust},
	{Name: "images", Aliases: []string{"image ls", "image list", "image images"}, Usage: "[NAME]", Group: groupImages,
		Help: "List images", New: func() command { return new(ImagesCmd) }, Text: textImages},
	{Name: "rmi", Aliases: []string{"image rm"}, Usage: "IMAGE...", Group: groupImages,
		Help: "Remove images", New: func() command { return new(RmiCmd) }},
	{Name: "tag", Aliases: []string{"image tag"}, Usage: "IMAGE NAME...", Group: groupImages,
		Help: "Give an image further names", New: func() command { return new(TagCmd) }},
	{Name: "untag", Aliases: []string{"image untag"}, Usage: "IMAGE [NAME...]", Group: groupImages,
		Help: "Take names away from an image", New: func() command { return new(UntagCmd) }},
	{Name: "image inspect", Usage: "IMAGE...", Hidden: true,
		Help: "Show everything about images", New: func() command { return &InspectCmd{kind: "image"} }},
	{Name: "history", Aliases: []string{"image history"}, Usage: "IMAGE", Group: groupImages,
		Help: "Show how an image was made", New: func() command { return new(HistoryCmd) }},
	{Name: "save", Aliases: []string{"image save"}, Usage: "IMAGE...", Group: groupImages,
		Help: "Write images to an archive", New: func() command { return new(SaveCmd) }},
	{Name: "load", Aliases: []string{"image load"}, Group: groupImages,
		Help: "Read images from an archive", New: func() command { return new(LoadCmd) }},
	{Name: "import", Aliases: []string{"image import"}, Usage: "FILE [NAME]", Group: groupImages,
		Help: "Make an image of a tar file of a root filesystem", New: func() command { return new(ImportCmd) }},
	{Name: "image adopt", Usage: "IMAGE...", Group: groupImages,
		Help: "Copy images of podman's store into moss's, so that they stay when podman removes them", New: func() command { return new(ImageAdoptCmd) },
		Example: "moss image adopt localhost/app\nmoss image adopt --all"},
	{Name: "image tree", Usage: "IMAGE", Group: groupImages,
		Help: "Show the layers of an image, and whose they are", New: func() command { return new(ImageTreeCmd) }},
	{Name: "image mount", Usage: "[IMAGE...]", Group: groupImages,
		Help: "Mount the files of images, read-only, or list those that are", New: func() command { return new(ImageMountCmd) }, Text: textImageMount,
		Example: "moss unshare sh -c 'ls \"$(moss image mount docker.io/library/debian)\"'"},
	{Name: "image unmount", Aliases: []string{"image umount"}, Usage: "IMAGE...", Group: groupImages,
		Help: "Undo moss image mount", New: func() command { return new(ImageUnmountCmd) }},
	{Name: "image prune", Group: groupImages,
		Help: "Remove the images that nothing uses", New: func() command { return new(ImagePruneCmd) }, Text: textImagePrune,
		Example: "moss image prune --all --force --filter until=240h"},
	{Name: "image log", Usage: "[NAME]", Group: groupImages,
		Help: "Show what names of images have meant, and since when", New: func() command { return new(ImageLogCmd) }, Text: textImageLog,
		Example: "moss image log docker.io/library/nginx\nmoss image rollback docker.io/library/nginx"},
	{Name: "image rollback", Usage: "NAME", Group: groupImages,
		Help: "Make a name mean the image again that it meant before", New: func() command { return new(ImageRollbackCmd) }, Text: textImageRollback,
		Example: "moss pull docker.io/library/nginx\nmoss image rollback docker.io/library/nginx"},
	{Name: "image exists", Usage: "IMAGE", Hidden: true,
		Help: "Say by the exit code whether an image exists", New: func() command { return &ExistsCmd{kind: "image"} }},
	{Name: "image scp", Usage: "[HOST::]IMAGE [HOST::]", Group: groupImages, Host: true,
		Help: "Copy an image to or from another machine, or between two, by ssh", New: func() command { return new(ImageScpCmd) }, Text: textImageScp,
		Example: "moss image scp app:1 ann@server::\nmoss image scp server::app:1"},
	{Name: "manifest create", Usage: "LIST [IMAGE...]", Group: groupImages,
		Help: "Make a list of images, each for a platform, under one name", New: func() command { return new(ManifestCreateCmd) }, Text: textManifest,
		Example: "moss manifest create app:1 app:1-amd64 app:1-arm64\nmoss manifest push app:1 registry.example.org/app:1"},
	{Name: "manifest add", Usage: "LIST IMAGE...", Group: groupImages,
		Help: "Add images to a manifest list", New: func() command { return new(ManifestAddCmd) }, Text: textManifest},
	{Name: "manifest annotate", Usage: "LIST [IMAGE]", Group: groupImages,
		Help: "Change what a manifest list says of an image", New: func() command { return new(ManifestAnnotateCmd) }},
	{Name: "manifest remove", Usage: "LIST IMAGE...", Group: groupImages,
		Help: "Take images out of a manifest list", New: func() command { return new(ManifestRemoveCmd) }},
	{Name: "manifest inspect", Usage: "LIST", Group: groupImages,
		Help: "Show a manifest list, of the store or of a registry", New: func() command { return new(ManifestInspectCmd) }},
	{Name: "manifest push", Usage: "LIST [DESTINATION]", Group: groupImages,
		Help: "Send a manifest list, and the images in it, to a registry", New: func() command { return new(ManifestPushCmd) },
		Example: "moss manifest push --rm app:1 registry.example.org/app:1"},
	{Name: "manifest rm", Usage: "LIST...", Group: groupImages,
		Help: "Remove manifest lists; the images in them stay", New: func() command { return new(ManifestRmCmd) }},
	{Name: "manifest exists", Usage: "LIST", Hidden: true,
		Help: "Say by the exit code whether a manifest list exists", New: func() command { return new(ManifestExistsCmd) }},
	{Name: "artifact add", Usage: "NAME FILE...", Group: groupImages,
		Help: "Make an artifact of files, to send to a registry", New: func() command { return new(ArtifactAddCmd) }, Text: textArtifact,
		Example: "moss artifact add registry.example.org/model:1 model.gguf\nmoss artifact push registry.example.org/model:1"},
	{Name: "artifact pull", Usage: "NAME", Group: groupImages,
		Help: "Get an artifact from a registry", New: func() command { return new(ArtifactPullCmd) }},
	{Name: "artifact push", Usage: "NAME [DESTINATION]", Group: groupImages,
		Help: "Send an artifact to a registry", New: func() command { return new(ArtifactPushCmd) }},
	{Name: "artifact ls", Aliases: []string{"artifact list"}, Group: groupImages,
		Help: "List artifacts", New: func() command { return new(ArtifactLsCmd) }},
	{Name: "artifact inspect", Usage: "NAME", Group: groupImages,
		Help: "Show everything about an artifact", New: func() command { return new(ArtifactInspectCmd) }},
	{Name: "artifact extract", Usage: "NAME TARGET", Group: groupImages,
		Help: "Write the files of an artifact", New: func() command { return new(ArtifactExtractCmd) }},
	{Name: "artifact rm", Aliases: []string{"artifact remove"}, Usage: "NAME...", Group: groupImages,
		Help: "Remove artifacts", New: func() command { return new(ArtifactRmCmd) }},

	{Name: "volume create", Usage: "[NAME]", Group: groupOthers,
		Help: "Create a volume", New: func() command { return new(VolumeCreateCmd) }},
	{Name: "volume ls", Aliases: []string{"volume list"}, Group: groupOthers,
		Help: "List volumes", New: func() command { return new(VolumeLsCmd) }},
	{Name: "volume inspect", Usage: "VOLUME...", Group: groupOthers,
		Help: "Show everything about volumes", New: func() command { return new(VolumeInspectCmd) }},
	{Name: "volume rm", Aliases: []string{"volume remove"}, Usage: "VOLUME...", Group: groupOthers,
		Help: "Remove volumes", New: func() command { return new(VolumeRmCmd) }},
	{Name: "volume prune", Group: groupOthers,
		Help: "Remove the volumes that no container uses", New: func() command { return new(VolumePruneCmd) }},
	{Name: "volume mount", Usage: "VOLUME...", Group: groupOthers,
		Help: "Mount volumes and say where their files are", New: func() command { return new(VolumeMountCmd) }, Text: textVolumeMount},
	{Name: "volume unmount", Aliases: []string{"volume umount"}, Usage: "VOLUME...", Group: groupOthers,
		Help: "Undo volume mount", New: func() command { return new(VolumeUnmountCmd) }},
	{Name: "volume export", Usage: "VOLUME", Group: groupOthers,
		Help: "Write the files of a volume as a tar archive", New: func() command { return new(VolumeExportCmd) },
		Example: "moss volume export data -o data.tar"},
	{Name: "volume import", Usage: "VOLUME [FILE]", Group: groupOthers,
		Help: "Add the files of a tar archive to a volume", New: func() command { return new(VolumeImportCmd) },
		Example: "moss volume import data data.tar"},
	{Name: "volume reload", Group: groupOthers,
		Help: "Ask volume plugins for their volumes, of which moss has none", New: func() command { return new(VolumeReloadCmd) }},
	{Name: "volume snapshot", Usage: "VOLUME [NAME]", Group: groupOthers,
		Help: "Keep what a volume holds now under a name", New: func() command { return new(VolumeSnapshotCmd) }, Text: textSnapshot,
		Example: "moss volume snapshot data before-upgrade\nmoss volume snapshot ls data\nmoss volume restore data before-upgrade"},
	{Name: "volume snapshot ls", Aliases: []string{"volume snapshot list"}, Usage: "[VOLUME...]", Group: groupOthers,
		Help: "List the snapshots of volumes", New: func() command { return new(VolumeSnapshotLsCmd) }},
	{Name: "volume snapshot rm", Aliases: []string{"volume snapshot remove"}, Usage: "VOLUME NAME...", Group: groupOthers,
		Help: "Remove snapshots of a volume", New: func() command { return new(VolumeSnapshotRmCmd) }},
	{Name: "volume restore", Usage: "VOLUME SNAPSHOT", Group: groupOthers,
		Help: "Make a volume hold again what it held at a snapshot", New: func() command { return new(VolumeRestoreCmd) }, Text: textRestore},
	{Name: "volume clone", Usage: "VOLUME [NAME]", Group: groupOthers,
		Help: "Create a volume that holds what another one does", New: func() command { return new(VolumeCloneCmd) }, Text: textVolumeClone,
		Example: "moss volume clone data test\nmoss volume clone --snapshot before-upgrade data old"},
	{Name: "volume exists", Usage: "VOLUME", Hidden: true,
		Help: "Say by the exit code whether a volume exists", New: func() command { return &ExistsCmd{kind: "volume"} }},
	{Name: "unit check", Usage: "[FILE|DIR...]", Group: groupUnits, Host: true,
		Help: "Say what is wrong with quadlet files", New: func() command { return new(UnitCheckCmd) }, Text: textUnitCheck,
		Example: "moss unit check web.container\nmoss unit check"},
	{Name: "unit list", Aliases: []string{"unit ls", "quadlet list", "quadlet ls"}, Group: groupUnits, Host: true,
		Help: "List quadlet files and the state of their services", New: func() command { return new(UnitListCmd) },
		Example: "moss unit list --filter status=failed/failed\nmoss unit list --format '{{.Name}} {{.Status}}'"},
	{Name: "unit print", Usage: "NAME...", Group: groupUnits, Host: true,
		Help: "Print the services that quadlet files become", New: func() command { return new(UnitPrintCmd) }, Example: "moss unit print web"},
	{Name: "unit install", Aliases: []string{"quadlet install"}, Usage: "FILE|DIR...", Group: groupUnits, Host: true,
		Help: "Check quadlet files and put them where the service manager finds them", New: func() command { return new(UnitInstallCmd) }, Text: textUnitInstall,
		Example: "moss unit install web.container app.network\nmoss unit install --replace ./blog"},
	{Name: "unit apply", Usage: "DIR", Group: groupUnits, Host: true,
		Help: "Let the service manager run what is in a directory of quadlet files", New: func() command { return new(UnitApplyCmd) }, Text: textUnitApply,
		Example: "moss unit apply --dry-run ./blog\nmoss unit apply ./blog"},
	{Name: "unit rm", Aliases: []string{"quadlet rm"}, Usage: "NAME...", Group: groupUnits, Host: true,
		Help: "Remove installed quadlet files and their services", New: func() command { return new(UnitRmCmd) },
		Text:    "What the services have made, such as volumes and networks, stays. A unit whose file cannot be removed goes on to run, or runs again.",
		Example: "moss unit rm --force web.container\nmoss unit rm --recursive blog"},
	{Name: "unit logs", Usage: "NAME", Group: groupUnits, Host: true,
		Help: "Show what the service of a quadlet file has written to the journal", New: func() command { return new(UnitLogsCmd) }, Example: "moss unit logs --follow web"},
	{Name: "unit status", Usage: "[NAME...]", Group: groupUnits, Host: true,
		Help: "Show the state of the services of quadlet files", New: func() command { return new(UnitStatusCmd) }},
	{Name: "quadlet print", Aliases: []string{"quadlet cat"}, Usage: "NAME", Host: true, Hidden: true,
		Help: "Print a quadlet file", New: func() command { return new(QuadletPrintCmd) }},
	{Name: "secret create", Usage: "NAME FILE|-", Group: groupOthers,
		Help: "Keep a secret for containers", New: func() command { return new(SecretCreateCmd) }, Text: textSecret,
		Example: "moss secret create password ./password.txt\nprintf %s \"$TOKEN\" | moss secret create token -\nmoss run --secret password,mode=0400,uid=1000 --secret token,type=env,target=TOKEN …"},
	{Name: "secret ls", Aliases: []string{"secret list"}, Group: groupOthers,
		Help: "List secrets", New: func() command { return new(SecretLsCmd) }},
	{Name: "secret inspect", Usage: "SECRET...", Group: groupOthers,
		Help: "Show everything about secrets", New: func() command { return new(SecretInspectCmd) }},
	{Name: "secret rm", Aliases: []string{"secret remove"}, Usage: "SECRET...", Group: groupOthers,
		Help: "Remove secrets", New: func() command { return new(SecretRmCmd) }},
	{Name: "secret exists", Usage: "SECRET", Hidden: true,
		Help: "Say by the exit code whether a secret exists", New: func() command { return new(SecretExistsCmd) }},
	{Name: "network create", Usage: "NETWORK", Group: groupOthers,
		Help: "Create a network", New: func() command { return new(NetworkCreateCmd) },
		Example: "moss network create shop\nmoss run -d --network shop --name db IMAGE\nmoss run -d --network shop -p 8080:80 IMAGE"},
	{Name: "network connect", Usage: "NETWORK CONTAINER", Group: groupOthers,
		Help: "Connect a container to a network, also while it runs", New: func() command { return new(NetworkConnectCmd) }},
	{Name: "network disconnect", Usage: "NETWORK CONTAINER", Group: groupOthers,
		Help: "Take a container off a network, also while it runs", New: func() command { return new(NetworkDisconnectCmd) }},
	{Name: "network rm", Aliases: []string{"network remove"}, Usage: "NETWORK...", Group: groupOthers,
		Help: "Remove networks", New: func() command { return new(NetworkRmCmd) }},
	{Name: "network prune", Group: groupOthers,
		Help: "Remove the networks that no container uses", New: func() command { return new(NetworkPruneCmd) }},
	{Name: "network reload", Usage: "[CONTAINER...]", Group: groupOthers,
		Help: "Set up the networks of running containers again", New: func() command { return new(NetworkReloadCmd) }},
	{Name: "network update", Usage: "NETWORK", Group: groupOthers,
		Help: "Change the name servers of a network", New: func() command { return new(NetworkUpdateCmd) }},
	{Name: "network dig", Usage: "CONTAINER NAME", Group: groupOthers,
		Help: "Show how a name is looked up for a container", New: func() command { return new(NetworkDigCmd) }},
	{Name: "network denied", Usage: "CONTAINER", Group: groupOthers, Text: textNetworkDenied,
		Help: "Show what a container's allow-list has refused", New: func() command { return new(NetworkDeniedCmd) },
		Example: "moss run -d --name job --allow-out github.com:443,*.debian.org IMAGE\nmoss network denied job"},
	{Name: "network web", Usage: "[on|off|status]", Group: groupOthers,
		Help: "Reach every container's web server at http://NAME.localhost:PORT", New: func() command { return new(NetworkWebCmd) }},
	{Name: "network ls", Aliases: []string{"network list"}, Group: groupOthers,
		Help: "List networks", New: func() command { return new(NetworkLsCmd) }},
	{Name: "network inspect", Usage: "NETWORK...", Group: groupOthers,
		Help: "Show everything about networks", New: func() command { return &InspectCmd{kind: "network"} }},
	{Name: "network exists", Usage: "NETWORK", Hidden: true,
		Help: "Say by the exit code whether a network exists", New: func() command { return &ExistsCmd{kind: "network"} }},
	{Name: "events", Aliases: []string{"system events"}, Group: groupOthers,
		Help: "Show what moss does, as it happens", New: func() command { return new(EventsCmd) }, Text: textEvents,
		Example: "moss events --filter event=died --format '{{.Name}} {{.ContainerExitCode}}'\nmoss events --since 1h --stream=false"},
	{Name: "unshare", Usage: "[COMMAND [ARG...]]", Group: groupOthers, Streams: true,
		Help: "Run a program of the host in moss's user namespace", New: func() command { return new(UnshareCmd) },
		Text:    "Inside, the files of containers and volumes belong to root and can be looked at and removed.",
		Example: "moss unshare cat /proc/self/uid_map"},
	{Name: "auto-update", Group: groupOthers,
		Help: "Have containers run with newer images, where their labels ask for it", New: func() command { return new(AutoUpdateCmd) }, Text: textAutoUpdate,
		Example: "moss run -d --name web --label io.containers.autoupdate=registry docker.io/library/nginx\nmoss auto-update --dry-run\nmoss auto-update enable && loginctl enable-linger"},
	{Name: "auto-update enable", Group: groupOthers, Host: true,
		Help: "Have the service manager update containers every night", New: func() command { return new(AutoUpdateEnableCmd) }, Text: textAutoUpdateEnable,
		Example: "moss auto-update enable && loginctl enable-linger\nsystemctl --user list-timers"},
	{Name: "auto-update disable", Group: groupOthers, Host: true,
		Help: "Have it update them no more", New: func() command { return new(AutoUpdateDisableCmd) }},
	{Name: "boot enable", Group: groupOthers,
		Help: "Have containers started after a boot, as their restart policies say", New: func() command { return new(BootEnableCmd) }, Text: textBoot,
		Example: "moss boot enable && loginctl enable-linger"},
	{Name: "boot disable", Group: groupOthers,
		Help: "Have no containers started after a boot", New: func() command { return new(BootDisableCmd) }},
	{Name: "boot status", Group: groupOthers,
		Help: "Show what will be started after the next boot", New: func() command { return new(BootStatusCmd) }},
	{Name: "generate quadlet", Usage: "CONTAINER...", Group: groupUnits,
		Help: "Print the quadlet file that makes a container again", New: func() command { return new(GenerateQuadletCmd) }, Text: textGenerateQuadlet,
		Example: "moss generate quadlet web >web.container\nmkdir blog && cd blog && moss generate quadlet --files web db && moss unit apply ."},
	{Name: "generate systemd", Usage: "CONTAINER", Group: groupOthers,
		Help: "Make a unit for the user's service manager of a container", New: func() command { return new(GenerateSystemdCmd) }, Text: textGenerateSystemd,
		Example: "moss generate systemd --new --name --files web\nmv container-web.service ~/.config/systemd/user/\nsystemctl --user daemon-reload && systemctl --user enable --now container-web"},
	{Name: "info", Aliases: []string{"system info"}, Group: groupOthers,
		Help: "Show what moss is and runs on", New: func() command { return new(InfoCmd) }},
	{Name: "system df", Group: groupOthers,
		Help: "Show what images, containers, volumes and the rest take on the disk", New: func() command { return new(SystemDfCmd) }, Text: textSystemDf},
	{Name: "system check", Group: groupOthers,
		Help: "Look for damage in images, containers and volumes, and repair it", New: func() command { return new(SystemCheckCmd) }, Text: textSystemCheck,
		Example: "moss system check --quick\nmoss system check --repair"},
	{Name: "system prune", Group: groupOthers,
		Help: "Remove containers, networks, images and volumes that are not used", New: func() command { return new(SystemPruneCmd) },
		Example: "moss system prune --force --filter until=24h\nmoss system prune --all --volumes"},
	{Name: "system reset", Group: groupOthers,
		Help: "Remove everything that moss has of you", New: func() command { return new(SystemResetCmd) }, Text: textSystemReset},
	{Name: "system move", Usage: "DIR", Group: groupOthers,
		Help: "Put images, containers and volumes elsewhere", New: func() command { return new(SystemMoveCmd) }, Text: textSystemMove,
		Example: "moss system move /data/$USER/moss"},
	{Name: "system migrate", Group: groupOthers,
		Help: "Stop all containers, so that the next is started with new subordinate IDs", New: func() command { return new(SystemMigrateCmd) }},
	{Name: "system gc", Group: groupOthers,
		Help: "Remove what crashes have left and no record knows", New: func() command { return new(SystemGcCmd) }, Text: textSystemGc,
		Example: "moss system gc --dry-run\nmoss system gc --background"},
	{Name: "doctor", Group: groupOthers, Host: true,
		Help: "Test whether this machine can run containers, and say what is missing", New: func() command { return new(DoctorCmd) }},
	{Name: "config", Usage: "[KEY...]", Group: groupOthers, Host: true,
		Help: "Show what is configured, and which file says so", New: func() command { return new(ConfigCmd) }, Text: textConfig,
		Example: "moss config\nmoss config --set\nmoss config containers.env --format '{{.Source}}'"},
	{Name: "version", Group: groupOthers, Host: true,
		Help: "Show the version", New: func() command { return new(VersionCmd) }},
	{Name: "completion", Usage: "SHELL", Group: groupOthers, Host: true,
		Help: "Print the completion script of bash, zsh or fish", New: func() command { return new(CompletionCmd) },
		Example: "moss completion bash >~/.local/share/bash-completion/completions/moss"},
	{Name: "help", Usage: "[COMMAND]", Group: groupOthers, Host: true,
		Help: "Show the help of a command", New: func() command { return new(HelpCmd) }},
	{Name: "man", Usage: "DIR", Host: true, Hidden: true,
		Help: "Write the man pages", New: func() command { return new(ManCmd) }},
	{Name: "compat", Usage: "FACTS", Host: true, Hidden: true,
		Help: "Write the comparison with podman", New: func() command { return new(CompatCmd) }},
	{Name: "__complete", Usage: "KIND", Hidden: true, Host: true,
		Help: "List what a word could be completed to", New: func() command { return new(CompleteCmd) }},
}

// valueGlobals are the global flags that take a value as the next word.
var valueGlobals = [...]string{"--root", "--runroot", "--cgroup-manager", "--volumepath", "--volume-path", "--log-level", "--registries-conf", "--runtime", "--hooks-dir", "--cdi-spec-dir"}

// lookup finds the command that args address, and what is left of args for it:
// its arguments, after the global flags that stood before it. A nil entry is a
// line without a command.
func lookup(args []string) (e *entry, name string, rest []string, err error) {
	words, at := commandWords(args)
	if len(words) == 0 {
		return nil, "", args, nil
	}
	for n := len(words); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if e := find(name); e != nil {
			rest := append([]string{}, args[:at[0]]...)
			return e, name, append(rest, args[at[n-1]+1:]...), nil
		}
	}
	for n := len(words); n > 0; n-- {
		name := strings.Join(words[:n], " ")
		if reason, ok := refused(name, ""); ok {
			return nil, "", nil, &refusalError{what: "moss " + name, reason: reason, hint: lacking(name)}
		}
	}
	if isGroup(words[0]) {
		return nil, "", nil, groupError(words)
	}
	return nil, "", nil, unknownCommand(words[0])
}

// commandWords are the first word that is not a flag, and the two after it as far
// as they follow at once, with their indices.
func commandWords(args []string) (words []string, at []int) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case len(words) == 0 && strings.HasPrefix(arg, "-"):
			for _, flag := range valueGlobals {
				if arg == flag {
					i++
				}
			}
		case strings.HasPrefix(arg, "-"):
			return words, at
		default:
			words, at = append(words, arg), append(at, i)
			if len(words) == 3 {
				return words, at
			}
		}
	}
	return words, at
}

// find returns the entry of a name or an alias; nil if there is none.
func find(name string) *entry {
	for i := range commands {
		e := &commands[i]
		if e.Name == name {
			return e
		}
		for _, alias := range e.Aliases {
			if alias == name {
				return e
			}
		}
	}
	return nil
}

// isInternal says that the command is for making moss, and for its completions.
func (e *entry) isInternal() bool {
	return strings.HasPrefix(e.Name, "__") || e.Name == "man" || e.Name == "compat"
}

// eachName calls do with every name and alias that a user may see.
func eachName(do func(name string, e *entry)) {
	for i := range commands {
		e := &commands[i]
		if e.isInternal() {
			continue
		}
		do(e.Name, e)
		for _, alias := range e.Aliases {
			do(alias, e)
		}
	}
}

func isGroup(word string) bool {
	found := false
	eachName(func(name string, _ *entry) { found = found || strings.HasPrefix(name, word+" ") })
	return found
}

func groupError(words []string) error {
	var subs []string
	eachName(func(name string, _ *entry) {
		if sub, ok := strings.CutPrefix(name, words[0]+" "); ok {
			subs = append(subs, sub)
		}
	})
	list := strings.Join(subs, ", ")
	if len(words) == 1 {
		return &hintedError{usagef("%s needs a command: %s", words[0], list), "'moss " + words[0] + " --help' tells what they do"}
	}
	hint := words[0] + " has the commands " + list
	if best := quadlet.Nearest(words[1], subs); best != "" {
		hint = "did you mean 'moss " + words[0] + " " + best + "'? " + hint
	}
	return &hintedError{fmt.Errorf("unknown command \"%s %s\"", words[0], words[1]), hint}
}

// hintedError is an error with a line of advice.
type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() }
func (e *hintedError) Unwrap() error { return e.err }
func (e *hintedError) Hint() string  { return e.hint }

func unknownCommand(word string) error {
	var names []string
	eachName(func(name string, _ *entry) {
		name, _, _ = strings.Cut(name, " ")
		names = append(names, name)
	})
	best := quadlet.Nearest(word, names)
	hint := "'moss help' lists the commands"
	if best != "" {
		hint = "did you mean 'moss " + best + "'?"
	}
	return &hintedError{fmt.Errorf("unknown command %q", word), hint}
}
