package rootless

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/userns"
)

// The names of checks that others depend on.
const (
	tryNamespace = "user namespace"
	tryDirs      = "directories"
	tryEnter     = "enter the kept namespaces"
	tryContainer = "run a container"
)

// doctorTries is every check, in the order in which people read them.
func doctorTries(dirsErr error) []try {
	return []try{
		{name: "kernel", needed: true, run: doctorKernel},
		{name: tryNamespace, needed: true, run: doctorNamespace},
		{name: "newuidmap and newgidmap", needed: true, run: doctorPrograms},
		{name: "map 65,536 IDs", needed: true, after: tryNamespace, run: doctorIDs},
		{name: tryDirs, needed: true, run: func(d *doctor, _ context.Context) (string, error) { return doctorDirs(d, dirsErr) }},
		{name: "disk space", needed: true, after: tryDirs, run: doctorDisk},
		{name: tryEnter, needed: true, after: tryDirs, run: doctorEnter},
		{name: "overlay", needed: false, after: tryEnter, run: doctorOverlay},
		{name: "map owners", needed: false, after: tryEnter, run: doctorOwners},
		{name: "seccomp", needed: true, run: doctorSeccomp},
		{name: tryContainer, needed: true, after: tryEnter, run: doctorContainer},
		{name: "network device", needed: true, run: doctorTun},
		{name: "resolve a name on the network", needed: true, after: tryContainer, run: doctorResolve},
		{name: "publish a port on the network", needed: true, after: tryContainer, run: doctorPublish},
		{name: "cgroup", needed: false, after: tryEnter, run: doctorCgroup},
		{name: "limits", needed: false, after: tryEnter, run: doctorLimits},
		{name: "run after logout", needed: false, run: doctorLinger},
		{name: "ports below 1024", needed: false, run: doctorLowPorts},
		{name: "ping", needed: false, run: doctorPing},
	}
}

// doctorKernel: setns(2) on a pidfd is what moss enters its namespaces by.
func doctorKernel(*doctor, context.Context) (string, error) {
	release := kernelRelease()
	var major, minor int
	fmt.Sscanf(release, "%d.%d", &major, &minor)
	switch {
	case major < 5 || major == 5 && minor < 8:
		return release, errors.New("too old: the oldest that will do is Linux 5.8")
	case major == 5 && minor < 11:
		return release + "; native overlay comes with 5.11", nil
	}
	return release, nil
}

func doctorNamespace(_ *doctor, ctx context.Context) (string, error) {
	_, err := userns.Probe(ctx, true)
	return "", err
}

func doctorPrograms(*doctor, context.Context) (string, error) {
	var found []string
	for _, name := range []string{"newuidmap", "newgidmap"} {
		path, err := userns.ProbeProgram(name)
		if err != nil {
			return "", err
		}
		var fs unix.Statfs_t
		if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
			return path, &curable{
				fmt.Sprintf("%q is on a file system mounted with nosuid, where it has no power", path),
				sudo("mount -o remount,suid " + mountOf(path)),
			}
		}
		found = append(found, path)
	}
	return strings.Join(found, ", "), nil
}

// mountOf is the mount point that a path is on.
func mountOf(path string) string {
	best := "/"
	data, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 1 && len(f[1]) > len(best) && strings.HasPrefix(path, f[1]+"/") {
			best = f[1]
		}
	}
	return best
}

// wantedIDs is what images from distributions use: nobody is 65534.
const wantedIDs = 65536

func doctorIDs(_ *doctor, ctx context.Context) (string, error) {
	ids, err := userns.Probe(ctx, false)
	switch {
	case err != nil:
		return "", err
	case ids == 1:
		return "your own ID only", &curable{"you have no subordinate IDs: only images that need a single ID can run", userns.SingleIDHint()}
	case ids < wantedIDs:
		return fmt.Sprintf("%d IDs", ids), &curable{"your ranges in /etc/subuid and /etc/subgid are too small for most images", userns.SingleIDHint()}
	}
	return fmt.Sprintf("%d IDs", ids), nil
}

func doctorDirs(d *doctor, err error) (string, error) {
	if err != nil {
		return "", err
	}
	detail := d.dirs.Root + ", " + d.dirs.Run
	if info := security(); info.SELinux {
		detail += "; SELinux is on"
	}
	for _, dir := range []string{d.dirs.Root, d.dirs.Run} {
		f, err := os.CreateTemp(dir, ".doctor-*")
		if err != nil {
			return detail, fmt.Errorf("cannot write: %w", err)
		}
		f.Close()
		os.Remove(f.Name())
	}
	if os.Getenv("XDG_RUNTIME_DIR") == "" && strings.HasPrefix(d.dirs.Run, "/tmp/") {
		detail += " (XDG_RUNTIME_DIR is not set)"
	}
	return detail, nil
}

const mebibyte = 1 << 20

func doctorDisk(d *doctor, _ context.Context) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(d.dirs.Root, &fs); err != nil {
		return "", err
	}
	free := fs.Bavail * uint64(fs.Bsize) / mebibyte
	detail := fmt.Sprintf("%d MiB free for %s", free, d.dirs.Root)
	if free < 100 {
		return detail, &curable{"no image of use fits", "moss rmi --all, or MOSS_ROOT=/a/larger/disk"}
	}
	if fs.Files > 0 && fs.Ffree < 1000 { // btrfs has no such number
		return detail, fmt.Errorf("only %d inodes are free on that file system", fs.Ffree)
	}
	return detail, nil
}

func doctorEnter(d *doctor, ctx context.Context) (string, error) {
	link, err := d.moss(ctx, "unshare", "readlink", "/proc/self/ns/user")
	if err != nil {
		return "", err
	}
	if own, _ := os.Readlink("/proc/self/ns/user"); link == own || link == "" {
		return "", fmt.Errorf("moss unshare ran in %q, the namespace it came from", link)
	}
	return link, nil
}

// doctorOverlay mounts one as containers have it, and removes a file of its
// lower layer.
func doctorOverlay(d *doctor, ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp(d.dirs.Root, ".doctor-*")
	if err != nil {
		return "", err
	}
	defer d.moss(context.WithoutCancel(ctx), "unshare", "rm", "-rf", dir) // the work directory belongs to no one outside
	const script = `set -e; cd "$1"; mkdir lower upper work merged; : >lower/file
		%s
		trap 'umount merged' EXIT
		test -f merged/file; rm merged/file; test ! -e merged/file; test -e lower/file; : >merged/file`
	const options = "lowerdir=lower,upperdir=upper,workdir=work"
	_, native := d.moss(ctx, "unshare", "sh", "-c", fmt.Sprintf(script, "mount -t overlay overlay -o "+options+",userxattr merged"), "sh", dir)
	if native == nil {
		return "native", nil
	}
	d.moss(ctx, "unshare", "rm", "-rf", dir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	if _, err := exec.LookPath("fuse-overlayfs"); err != nil {
		return "vfs, which copies every layer", &curable{
			fmt.Sprintf("no native overlay (%v), and fuse-overlayfs is not installed", native), install("fuse-overlayfs"),
		}
	}
	_, err = d.moss(ctx, "unshare", "sh", "-c", fmt.Sprintf(script, "fuse-overlayfs -o "+options+" merged"), "sh", dir)
	if err != nil {
		return "vfs, which copies every layer", &curable{
			fmt.Sprintf("no native overlay (%v), and fuse-overlayfs fails: %v", native, err), sudo("modprobe fuse"),
		}
	}
	return fmt.Sprintf("fuse-overlayfs, which is slower; no native one: %v", native), nil
}

// doctorOwners: what the first container with a new --userns costs.
func doctorOwners(d *doctor, ctx context.Context) (string, error) {
	name, err := d.moss(ctx, "info", "--format", `{{index .Store.GraphStatus "Owner Shift"}}`)
	name = strings.TrimSpace(name)
	switch {
	case err != nil:
		return "", err
	case name != shiftCopy:
		return name, nil
	}
	return name, &curable{
		"a new --userns copies the image once: before Linux 6.16 only XFS, btrfs or fuse-overlayfs avoid that", install("fuse-overlayfs"),
	}
}

// doctorSeccomp offers a filter at address 0: EFAULT says that one would be
// read, EINVAL that the kernel has no filters; see seccomp(2).
func doctorSeccomp(*doctor, context.Context) (string, error) {
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, 0)
	if errno == unix.EFAULT || errno == unix.EACCES {
		return "", nil
	}
	return "", fmt.Errorf("this kernel is built without seccomp filters (CONFIG_SECCOMP_FILTER): %w", errno)
}

// doctorTun: every uplink makes a tun device in the shared network namespace.
func doctorTun(*doctor, context.Context) (string, error) {
	const path = "/dev/net/tun"
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	switch {
	case err == nil:
		return path, f.Close()
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ENODEV):
		return "", &curable{fmt.Sprintf("there is no %s: containers reach only each other", path), sudo("modprobe tun")}
	case errors.Is(err, os.ErrPermission):
		return "", &curable{fmt.Sprintf("%s is closed to you: containers reach only each other", path), sudo("chmod 666 " + path)}
	}
	return "", err
}

func doctorCgroup(d *doctor, ctx context.Context) (string, error) {
	parent := systemd.Cgroup(ctx, d.dirs.Run, d.CgroupManager)
	if err := parent.Why(); err != nil {
		return "", err
	}
	dir, err := parent.Make("00moss-doctor")
	if err != nil {
		return "", err
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	cmd := exec.CommandContext(ctx, "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	err = cmd.Run()
	if removeErr := cgroup.Remove(dir); err == nil {
		err = removeErr
	}
	if err != nil {
		return "", fmt.Errorf("no process can be started in cgroup %q: %w", dir, err)
	}
	return parent.Manager + ", " + dir, nil
}

func doctorLimits(d *doctor, ctx context.Context) (string, error) {
	parent := systemd.Cgroup(ctx, d.dirs.Run, d.CgroupManager)
	if err := parent.Why(); err != nil {
		return "", errors.New("there are no cgroups to put limits on")
	}
	have := parent.Controllers()
	detail := "none"
	if len(have) > 0 {
		detail = strings.Join(have, " ")
	}
	// Without cpuset and io only rarely used flags do not work.
	var missing []string
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, controller) {
			missing = append(missing, controller)
		}
	}
	if len(missing) == 0 {
		return detail, nil
	}
	cause := "not delegated to you: " + strings.Join(missing, ", ")
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return detail, errors.New(cause)
	}
	return detail, &curable{cause, parent.DelegateHint()}
}

func doctorLinger(*doctor, context.Context) (string, error) {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return "no systemd: nothing ends containers when you log out", nil
	}
	u, err := user.Current()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username)); err != nil {
		return "", &curable{"containers end when your last session does", "loginctl enable-linger"}
	}
	return "", nil
}

func doctorLowPorts(*doctor, context.Context) (string, error) {
	const setting = "net.ipv4.ip_unprivileged_port_start"
	l, err := net.Listen("tcp", "127.0.0.1:80")
	if err == nil {
		return "", l.Close()
	}
	if errors.Is(err, unix.EADDRINUSE) {
		value, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		var start int
		if n, _ := fmt.Sscan(string(value), &start); n == 1 && start <= 80 {
			return "port 80 is taken", nil
		}
	}
	return "", &curable{"only root may publish ports below 1024 here", sysctl(setting, "80")}
}

func doctorPing(*doctor, context.Context) (string, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err == nil {
		return "", unix.Close(fd)
	}
	return "", &curable{"containers cannot ping beyond this machine: your group is not in net.ipv4.ping_group_range",
		sysctl("net.ipv4.ping_group_range", "0 2147483647")}
}
