package cli

// Further paragraphs of help.
const (
	textFlagsFirst = `Flags stand before the image; everything after it belongs to the container.`

	textWake = `

With --wake the container waits when it is started: its published ports are open, its program does not run. The first client
of a port that --wake names starts it, and is connected when the program listens and its health check, if it has one, has
succeeded: it is tried at once, and often until then. Those who come meanwhile wait too, a minute at most. When nobody has
been connected to a published port for the time of --idle, nobody is attached and nothing
executed in it runs, the program gets its stop signal, and the container waits again; it does too when its program ends by itself.
'moss start' starts the program of a waiting container without a client, and 'moss stop' ends the waiting until the
next start. The restart policy says what a boot starts, unless-stopped if none is given. If the program cannot be
started its clients are reset, and the container's log says why. Connections from container to container, past the published
ports, neither start it nor keep it.`

	textSockets = `

A listening socket that a service manager has passed to moss (LISTEN_FDS, see sd_listen_fds(3)) is used for the published port with
its number: with -p 8080:80 wherever it listens, with an address only if it listens there. The others are the program's, as
LISTEN_FDS and LISTEN_PID tell it. They stay for as long as moss was not asked to stop the container.`

	textRun = textFlagsFirst + textWake + textSockets + `

The exit code is that of the program in the container.`

	textSystemDf = `The sizes are measured on the disk, as du does, and sum up to what moss's directory takes: each layer counts
once, however many images have it. The row Other is unfinished pulls, images with mapped owners, trash and records.`

	textSystemGc = `Each command removes what the one before it left that was killed, so that there is seldom anything to do. Containers
run and images come and go meanwhile: nothing is locked but for moments, and the work gives way to everybody else's.

The layers and downloads of a pull that was cut short wait a week for the next try; --all removes them too.`

	textSystemReset = `Nothing needs it: whatever is damaged, 'moss system check --repair' repairs.`

	textSystemCheck = `Every layer is read, and compared with what was unpacked, byte by byte; --quick only looks whether everything is there.

--repair removes damaged images, which a pull brings back, but none that containers use; --force removes those containers, and
damaged ones, too. The files of volumes are never removed. It fails if damage stays.`

	textSystemMove = `Where everything was there is then a symbolic link, so that all goes on as before; moving it again, or back, works too.
Within a file system it takes a moment. To another one everything is copied first, and the old copy removed when the new one
is whole on the disk and is the one that is found: whenever moss is killed, or the power fails, the one or the other is used.

No container may run, nothing may be mounted, and nobody may pull meanwhile.`

	textExec = `Flags stand before the container; everything after it is the program and its arguments.

The exit code is that of the program.`

	textPs = `Filters are id, name, label, label!, status, exited, ancestor, before, since, volume, network, until, pod, health,
restart-policy, command and should-start-on-boot. Values of one key are alternatives, keys must all match. name and command are
regular expressions; command is compared with the first word.

Fields of --format are ID, Image, ImageID, Command, Created, CreatedAt, RunningFor, Status, State, Ports, ExposedPorts, Names,
Labels, Label, Networks, Mounts, Pid, Exited, ExitCode, ExitedAt, StartedAt, Restarts, AutoRemove, CIDFile, Size, Pod, PodName
and those of --ns; "json" prints everything.`

	textCp = `The container may run or not. A path of a container that is not absolute begins in its working directory; its
volumes and bind mounts are seen as its processes see them, and its symbolic links lead nowhere else.

A file is copied into a directory that is there under its name, in place of a file that is there, or under a new
name. A directory is copied into a directory that is there under its name, or under a new name; with "/." at its end,
what is in it is. The directory that the copy is put in must be there. Files are replaced whole: an interrupted copy
leaves no half file. Extended attributes, holes and hard links stay; devices are left out on the host, and sockets
everywhere. What the kernel shows in /proc and /sys is copied only when it is asked for by its own path.`

	textCommit = `The image has the layers of the container's image and one of what the container has changed; what is in volumes
is left out. It says what the container was created with: environment, command, user, working directory, labels,
ports, volumes, stop signal and health check. Instructions of --change are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR.`

	textRunlabel = `The command must be one of podman, docker or moss, and is run by moss. In it $IMAGE, $NAME, $PWD and $OPT1 to $OPT3
are replaced, and so are the words IMAGE and NAME; nothing else of the environment is, and no shell is asked. Look
at what an image wants with --display first.`

	textDiff = `Each line is A for what is new, C for what is changed and D for what is deleted, and a path. A directory counts as
changed when something in it is. What moss itself mounts things on, such as /etc/hosts, is left out. An image is
compared with the layers below its uppermost one; with a second argument the first is compared with that.`

	textMount = `The mount is made in the user's namespaces: 'moss unshare' starts a program there. It shows what the container has
written, and what is written there is the container's; its volumes are not in it. It stays when the container stops
and starts, until 'moss unmount', the container's removal or a reboot.`

	textLogin = `The registry is asked first; what it refuses is not kept. Credentials are kept in auth.json, which podman, buildah and
skopeo read too, or by the programs docker-credential-NAME that registries.conf (credential-helpers) or auth.json
(credHelpers) name: see containers-auth.json(5). pull, push and search use those of the most specific key: those for
registry.example.com/team/app before those for registry.example.com/team and for registry.example.com. Docker's
config.json is read when auth.json has none.`

	textImageMount = `The mount is made in the user's namespaces: 'moss unshare' starts a program there. It stays until 'moss image
unmount', the image's removal or a reboot.`

	textImageLog = `Every pull, load, import, commit, tag, untag and rmi of moss adds a line; what podman does to its own store is not
in it. STATE says whether the name means the image still (current), the image is there without that name (kept), or it
has been removed.

Fields of --format are Name, ID, ImageID, Digest, Time, When, At, Verb, Source, How and State; "json" prints everything.`

	textImageRollback = `The image that the name meant before must still be there: 'moss image prune' and 'moss rmi' remove it for good.
Rolled back once more, the name goes back further; --to brings back what was rolled back, too.`

	textImagePrune = `Without --all, dangling images go: those without a name that nothing is built on, such as what a name meant before
it was pulled anew. 'moss image rollback' then cannot bring them back. With --external an image that
a container of buildah or another program uses goes too.`

	textSearch = `A registry may stand before the term; else the unqualified-search-registries of registries.conf are asked, or docker.io
where there are none. A registry that has no search is asked for all its repositories, whose names are looked through.

Filters are stars, is-automated and is-official. Fields of --format are Index, Name, Description, Stars, Official,
Automated and, with --list-tags, Tag; "json" prints everything.`

	textSign = `The signature is put into the registry beside the image, where podman, skopeo and cosign find it too. Of a list of
images the list is signed, which stands for its images: podman wants each signed, with --all. 'moss push' signs what it
pushes with the same flags. 'moss image trust set' says whose signatures an image must have.`

	textTrust = `The policy is policy.json: see containers-policy.json(5). It is the file that $CONTAINERS_POLICY_JSON names, else yours,
~/.config/containers/policy.json, else /etc/containers/policy.json; where there is none every image is accepted, and one
that cannot be read lets none in. What is changed is your file, which begins as the machine's. pull, run, create and
whatever else gets an image from a registry obey it. Of several scopes that fit an image the most specific counts.`

	textImages = `Filters are after, before, containers, dangling, digest, id, intermediate, label, manifest, readonly, reference, since
and until; KEY!=VALUE lists those that do not match. IDs, digests and references are alternatives, all else must match.

Fields of --format are ID, Repository, Tag, Digest, Digests, Created, CreatedSince, CreatedAt, CreatedTime, Size, Names,
RepoTags, RepoDigests, Labels, History, Containers, ParentId, Arch, Os, Dangling, ReadOnly and IsManifestList; "json"
prints everything.`

	textImageScp = `HOST is [USER@]NAME[:PORT], or a name that ssh's configuration has. On the other side moss is run, or podman or docker
where there is no moss; nothing listens there but sshd. What was copied has the same name and ID. Whoever else's images are
on this machine are theirs: USER@localhost:: reaches them as ssh lets you.`

	textArtifact = `An artifact is one or more files of any kind with a name, kept beside the images, where podman of the same store has
them. Without a registry in its name it is of localhost.`

	textManifest = `An image is looked for in the store and then in registries; docker:// or containers-storage: before its name say
where. Of what is in a registry the list keeps the digest and the place; 'moss run' of the list pulls it when it is wanted.`

	textEvents = `Without --since and --until only what happens from now on is shown; with --stream=false only what has happened.

Filters are container, image, volume, network and pod by name or the beginning of an ID, event, type and label. Values
of one key are alternatives, keys must all match. Types are container, image, volume, network and pod.

Fields of --format are ID, Name, Image, Type, Status, Time, TimeNano, ContainerExitCode, HealthStatus, Network, PodID,
Error and Attributes.`

	textConfig = `Every value in effect is shown with the file and the line that set it. Of keys that moss does not know, or has no
use for, a warning is given; a file that cannot be read is an error, here and to every other command. See moss.conf(5).

Fields of --format are Key, Value, Values, Source, File and Line; "json" prints everything.`

	textHealthcheck = `The exit code is 0 when the check has succeeded, 1 when it has failed, 125 when there is none or the container does
not run.`

	textVolumeMount = `What is mounted is seen in moss's own namespaces: moss unshare ls PATH. Only volumes of type=tmpfs and those with
a device need it; they are mounted while a container runs with them, too.`

	textSnapshot = `Containers that run with the volume are paused while it is read, and go on afterwards, also when moss is killed
meanwhile. Where the file system can share blocks (btrfs, XFS) that takes a moment and no space; else the files are copied.
Without a name the time is taken for one. Snapshots go with their volume; 'moss volume rm' wants --force for one that has any.`

	textRestore = `No container may run with the volume. It holds either what it held before or all of the snapshot, also when moss is
killed; what was written since the snapshot is gone: take another one first if it may be wanted.`

	textVolumeClone = `Containers that run with the volume are paused while it is read. The clone keeps the labels. That of a volume in
memory or in a directory elsewhere has files of its own.`

	textSecret = `A container gets a copy when it is created: as a file that nobody can write to, below /run/secrets, or as a variable
that inspect does not show. Neither is in an image that is made of the container.`

	textTop = `Descriptors are those of ps -o, such as user, pid, ppid, pcpu, vsz, time, comm and args, and hpid, huser and
hgroup for what the host sees.`

	textUnitCheck = `Each line is FILE:LINE and what is wrong, with the nearest right name. The command lines that a file makes are checked
as moss itself would. What files refer to may lie beside them, or where your other quadlet files are. The exit code is 1 if
there is an error; warnings alone are none.`

	textUnitInstall = `Files go to ~/.config/containers/systemd, those of a directory to one of its name there; a file that ends in .quadlets
is taken apart at its lines of ---. Nothing is installed if there is an error. Where moss-generator is not installed for the
service manager, which takes root, the services are made in ~/.config/systemd/user.`

	textUnitApply = `The plan says which units are new, changed or gone, and what becomes of them: what runs and has changed, itself or by a
file that it uses, is restarted; what is new and has [Install] is started; what is gone is stopped. Images are pulled
first. A network that has changed is made anew, and what is connected to it restarted; so is a volume that nothing has used
yet, while one with data stays as it is. What runs of a template is its instances, and of a new one the default instance is started.

The files are put into a directory of the application's name among your quadlet files. There .moss-applied lists them: files
that stand there beside them are yours, and stay. An apply that was interrupted, or could not
make the services, is ended by the next one. Of two at once one waits for the other; so do install and rm of the same application.`
)

const textGenerateSystemd = `The unit is of Type=notify: its main process is the container's monitor, which ends with the container's exit code, so that Restart=on-failure starts again what has failed, and not what somebody has stopped. It is ready when the container has started, or, where --sdnotify was given for the container, when that says so.

Without --new the unit starts and stops this very container. With --new it makes it at each start, from the command line that has made this one; paths in it must not be relative.`

const textBoot = `The user's service manager then starts moss-boot.service, which starts the containers of --restart always, and those of unless-stopped that nobody has stopped. It waits for no network: a container gets its uplink when the host has one.

The manager itself runs from the boot on only for a user who lingers: loginctl enable-linger. Otherwise it begins at the first login, and ends, with the containers, after the last one.`

const textGenerateQuadlet = `The file has the flags with which the container was created, as keys where there is one. With --files its networks
and volumes become files too; what is in the volumes stays where it is, and the service uses it.`

const textAutoUpdate = `A container that runs is looked at if it has the label io.containers.autoupdate: with registry, its image is updated when its name means another one in the registry; with local, when it means another one here. A container of a unit, which its label PODMAN_SYSTEMD_UNIT names, is updated by a restart of the unit, any other by being made anew, with all that was said of it, and its volumes and addresses.

It is well when its health check succeeds, or where it has none, when it has run for the time of --stay. Otherwise the name of the image means again what it meant, its volumes hold again what they held, and the old container goes on: it is rolled back. With the label moss.autoupdate=notify an update is told of, and left to you.

UPDATED is true, false, pending, failed, or rolled back. With 'moss auto-update enable' the service manager does it every night.`

const textAutoUpdateEnable = `The timer moss-auto-update.timer starts moss-auto-update.service, which is 'moss auto-update'; 'journalctl --user -u moss-auto-update' shows what it has done. 'systemctl --user edit moss-auto-update.timer' chooses another time, 'systemctl --user edit moss-auto-update.service' other flags.

Where moss is not installed for all users, the units are written for this very program: after it has moved, enable them again.`
