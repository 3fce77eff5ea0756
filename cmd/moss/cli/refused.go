package cli

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// refusal is a command or a flag of podman that moss does not offer, and why.
type refusal struct {
	Commands string // names of the table, with a dash for the space in them: "run container-clone"
	Flag     string // "--rdt-class", or "-x" where podman has but the letter; "" refuses the commands themselves
	Reason   string // follows "cannot use --rdt-class: "
}

// refusals are all of them. The list is looked at only when the grammar has
// refused a command line; test/compat holds it against podman's flags.
var refusals = [...]refusal{
	{"run create", "--rdt-class", "Resource Director Technology is set in /sys/fs/resctrl, which only root may write"},
	{"run create update", "--cpu-rt-period", "real-time limits are of cgroup v1; moss uses cgroup v2, which has none"},
	{"run create update", "--cpu-rt-runtime", "real-time limits are of cgroup v1; moss uses cgroup v2, which has none"},
	{"run create update", "--memory-swappiness", "swappiness is set per cgroup in cgroup v1 only; moss uses cgroup v2, which has none"},
	{"run create", "--kernel-memory", "it is of cgroup v1; in cgroup v2 --memory counts the kernel's memory too"},
	{"run create", "--oom-kill-disable", "it is of cgroup v1; with cgroup v2 give more --memory, or protect the program with --oom-score-adj"},
	{"run create", "--disable-content-trust", "moss does not know Docker's content trust; containers-policy.json(5) says which signatures an image needs"},
	{"run create container-clone", "--pod", "moss has no pods; --network, --ipc and --pid container:NAME share another container's namespaces"},
	{"run create", "--pod-id-file", "moss has no pods; --network, --ipc and --pid container:NAME share another container's namespaces"},
	{"create", "--init-ctr", "it is for containers of a pod, and moss has no pods; --requires starts another container first"},
	{"run create", "--decryption-key", "moss does not decrypt images"},
	{"run create", "--device-cgroup-rule", "only root can load the programs by which cgroup v2 filters devices; --device gives a device that its own permissions allow"},
	{"create", "--attach", "nothing runs yet that could be attached to; 'moss start --attach' attaches"},
	{"container-clone", "--cpu-rt-period", "real-time limits are of cgroup v1; moss uses cgroup v2, which has none"},
	{"container-clone", "--cpu-rt-runtime", "real-time limits are of cgroup v1; moss uses cgroup v2, which has none"},
	{"container-clone", "--memory-swappiness", "swappiness is set per cgroup in cgroup v1 only; moss uses cgroup v2, which has none"},
	{"system-renumber", "", "moss numbers no locks: the directory of a container is its lock"},
	{"system-prune", "--build", "moss does not build images yet, so it has no containers of builds"},
	{"image-prune", "--build-cache", "moss does not build images yet, so it keeps no cache of builds"},
	{"push", "--compress", "it is for directories of podman's dir: transport; --compression-format says how layers are sent to a registry"},
	{"pull", "--disable-content-trust", "moss does not know Docker's content trust; containers-policy.json(5) says which signatures an image needs"},
	{"pull", "--decryption-key", "moss does not decrypt images"},
	{"push", "--disable-content-trust", "moss does not know Docker's content trust; containers-policy.json(5) says which signatures an image needs"},
	{"push", "--encrypt-layer", "moss does not encrypt images"},
	{"push", "--encryption-key", "moss does not encrypt images"},
	{"push manifest-push", "--sign-by", noGPG},
	{"artifact-push", "--sign-by", noArtifactSignature},
	{"artifact-push", "--sign-by-sigstore", noArtifactSignature},
	{"artifact-push", "--sign-by-sigstore-private-key", noArtifactSignature},
	{"artifact-push", "--sign-passphrase-file", noArtifactSignature},
	{"artifact-pull", "--decryption-key", "moss does not decrypt artifacts"},
	{"push manifest-push image-sign", "--sign-by", noGPG},
	{"push manifest-push", "--sign-by-sigstore", "certificates of Fulcio and the log of Rekor are services of the internet, which moss does not ask; --sign-by-sigstore-private-key signs with a key"},
	{"push", "--sign-by-sq-fingerprint", noGPG},
	{"image-sign", "--directory", "signatures are put into the registry, beside the image"},
	{"generate-systemd", "--pod-prefix", "moss has no pods"},
	{"container-checkpoint container-restore", "", noCheckpoint},
	{"pod-create pod-start pod-stop pod-rm", "", "moss has no pods yet; --network, --ipc and --pid container:NAME share another container's namespaces"},
	{"kube-play kube-down", "", "moss does not read Kubernetes YAML yet"},
	{"build", "", "moss does not build images yet; 'moss load' and 'moss pull' take those that another program has built"},
	{"run exec kill rm pull network-create network-rm volume-create artifact-pull", "--module", "moss reads no modules of containers.conf; what they say may stand in containers.conf.d"},
	{"container-cleanup", "", "the monitor of each container cleans up when it exits; 'moss rm' does it where a crash left something"},
}

// noArtifactSignature is why an artifact is pushed without signatures.
const noArtifactSignature = "moss signs images, and checks their signatures when they are pulled; an artifact is known by its digest"

// noGPG is why signatures of GnuPG are neither made nor checked.
const noGPG = "moss does not make or check signatures of GnuPG; sign with a sigstore key: --sign-by-sigstore-private-key"

// noCheckpoint is why the processes of a container cannot be saved; see criu(8),
// "--unprivileged".
const noCheckpoint = "CRIU saves mount, network and PID namespaces only as root on the host; what it can do with CAP_CHECKPOINT_RESTORE alone leaves out namespaces, which every container has"

// lacking says what this machine lacks in addition for a command that is refused.
func lacking(name string) string {
	if name != "container checkpoint" && name != "container restore" {
		return ""
	}
	criu, err := exec.LookPath("criu")
	if err != nil {
		return "criu is not installed here either"
	}
	out, err := exec.Command(criu, "check", "--unprivileged").CombinedOutput()
	if err == nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return "'criu check --unprivileged' says: " + lines[len(lines)-1]
}

// refused is what the list says about a flag of a command, or with flag "" about
// the command itself.
func refused(command, flag string) (reason string, ok bool) {
	command = strings.ReplaceAll(command, " ", "-")
	for i := range refusals {
		r := &refusals[i]
		if r.Flag == flag && slices.Contains(strings.Fields(r.Commands), command) {
			return r.Reason, true
		}
	}
	return "", false
}

// refusalError names what podman has and moss does not, with the reason.
type refusalError struct{ what, reason, hint string }

func (e *refusalError) Error() string { return fmt.Sprintf("cannot use %s: %s", e.what, e.reason) }

// Hint is mostly none: the reason has said it.
func (e *refusalError) Hint() string { return e.hint }

// refusedFlag is the refusal that kong's complaint of an unknown flag comes to.
func refusedFlag(command string, complaint error) error {
	flag, ok := strings.CutPrefix(complaint.Error(), "unknown flag ")
	if !ok {
		return nil
	}
	flag, _, _ = strings.Cut(flag, ",")
	if reason, ok := refused(command, flag); ok {
		return &refusalError{what: flag, reason: reason}
	}
	return nil
}
