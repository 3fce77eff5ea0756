package runtime

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// secretsDir is where secrets are, unless they have a path of their own.
const secretsDir = "/run/secrets"

// readSecrets reads the files of the secrets while this process is still who may.
func (s *stage) readSecrets() error {
	for _, secret := range s.doc.Secrets {
		data, err := readFile(secret.File)
		if err != nil {
			return fmt.Errorf("cannot read secret %q: %w", secret.File, err)
		}
		s.secrets = append(s.secrets, data)
	}
	return nil
}

// secretVariables adds the secrets that are variables to the environment.
func (s *stage) secretVariables(p *specs.Process) {
	for i, secret := range s.doc.Secrets {
		if secret.Env == "" {
			continue
		}
		p.Env = withVariable(p.Env, secret.Env, string(s.secrets[i]))
	}
}

// withVariable gives a variable of an environment this value alone.
func withVariable(env []string, name, value string) []string {
	env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	return append(env, name+"="+value)
}

// mountSecrets puts the others into memory: those below /run/secrets on a tmpfs
// there, unless something else is mounted there, and each that has a path of its
// own on that.
func (s *stage) mountSecrets() error {
	if len(s.doc.Secrets) == 0 {
		return nil
	}
	taken := slices.ContainsFunc(s.spec.Mounts, func(m specs.Mount) bool { return below(path.Clean(m.Destination), secretsDir) })
	var together, apart []int
	for i, secret := range s.doc.Secrets {
		switch {
		case secret.Env != "":
		case !taken && below(secret.Target, secretsDir) && secret.Target != secretsDir:
			together = append(together, i)
		default:
			apart = append(apart, i)
		}
	}
	if err := s.secretsTogether(together); err != nil {
		return fmt.Errorf("cannot mount secrets: %w", err)
	}
	if err := s.secretsApart(apart); err != nil {
		return fmt.Errorf("cannot mount secrets: %w", err)
	}
	return nil
}

func below(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

const secretAttributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC

// secretsTogether mounts one tmpfs at /run/secrets.
func (s *stage) secretsTogether(which []int) error {
	if len(which) == 0 {
		return nil
	}
	top, err := s.secretMount()
	if err != nil {
		return err
	}
	defer unix.Close(top)
	for _, i := range which {
		if err := s.writeSecret(top, strings.TrimPrefix(s.doc.Secrets[i].Target, secretsDir+"/"), i); err != nil {
			return err
		}
	}
	fd, err := s.makeTarget(secretsDir, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attachReadOnly(top, fd)
}

// secretsApart binds files of a tmpfs that has no place of its own. It has one
// meanwhile, above the root directory: a detached mount cannot be cloned before
// Linux 6.15.
func (s *stage) secretsApart(which []int) error {
	if len(which) == 0 {
		return nil
	}
	top, err := s.secretMount()
	if err != nil {
		return err
	}
	defer unix.Close(top)
	if err := attach(top, s.root); err != nil {
		return err
	}
	defer unix.Unmount(fdPath(top), unix.MNT_DETACH)
	for _, i := range which {
		name := strconv.Itoa(i)
		if err := s.writeSecret(top, name, i); err != nil {
			return err
		}
		if err := s.bindSecret(top, name, s.doc.Secrets[i].Target); err != nil {
			return fmt.Errorf("%q: %w", s.doc.Secrets[i].Target, err)
		}
	}
	return nil
}

func (s *stage) bindSecret(top int, name, target string) error {
	tree, err := unix.OpenTree(top, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	fd, err := s.makeTarget(target, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attachReadOnly(tree, fd)
}

func attachReadOnly(tree, target int) error {
	attr := unix.MountAttr{Attr_set: secretAttributes | unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	return attach(tree, target)
}

// secretMount makes a detached tmpfs.
func (s *stage) secretMount() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	options := [][2]string{{"mode", "755"}}
	if l := s.spec.Linux.MountLabel; l != "" && hostSELinux() {
		options = append(options, [2]string{"context", l})
	}
	for _, option := range options {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, secretAttributes)
}

// writeSecret writes one file of a tmpfs, and the directories above it.
func (s *stage) writeSecret(top int, name string, i int) error {
	secret := s.doc.Secrets[i]
	at := ""
	for dir := range strings.SplitSeq(path.Dir(name), "/") {
		if dir == "." {
			continue
		}
		at = path.Join(at, dir)
		if err := unix.Mkdirat(top, at, 0o755); err != nil && err != unix.EEXIST {
			return fmt.Errorf("%q: %w", secret.Target, err)
		}
	}
	fd, err := unix.Openat(top, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("%q: %w", secret.Target, err)
	}
	defer unix.Close(fd)
	for rest := s.secrets[i]; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil {
			return fmt.Errorf("%q: %w", secret.Target, err)
		}
		rest = rest[n:]
	}
	if err := unix.Fchown(fd, int(secret.UID), int(secret.GID)); err != nil {
		return fmt.Errorf("%q cannot belong to %d:%d: %w", secret.Target, secret.UID, secret.GID, err)
	}
	return unix.Fchmod(fd, secret.Mode)
}
