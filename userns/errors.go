package userns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Hinter is an error that knows the one command that mends its cause.
type Hinter interface {
	error
	Hint() string
}

// NoSubIDError says that a user has no subordinate IDs. If both files have none
// it is no error but single-ID mode, except for root.
type NoSubIDError struct {
	User  string // "" when no user database knows the UID
	UID   int
	File  string // what lacks them; both are joined by " and "
	local bool   // in /etc/passwd
}

func (e *NoSubIDError) Error() string {
	return fmt.Sprintf("user %q has no subordinate IDs in %s", e.name(), e.File)
}

func (e *NoSubIDError) name() string {
	if e.User == "" {
		return fmt.Sprint(e.UID)
	}
	return e.User
}

// Hint gives the user a range that is free on this machine.
func (e *NoSubIDError) Hint() string {
	free := freeRange()
	if !e.local { // usermod(8) knows only the users of /etc/passwd
		return sudo(fmt.Sprintf("sh -c 'echo %s:%d:%d | tee -a %s'", e.name(), free.Start, free.Size,
			strings.ReplaceAll(e.File, " and ", " ")))
	}
	args := ""
	for _, kind := range []string{"uid", "gid"} {
		if strings.Contains(e.File, subFile(kind)) {
			args += fmt.Sprintf(" --add-sub%ss %s", kind, free)
		}
	}
	return sudo("usermod" + args + " " + e.name())
}

// SingleIDHint is the command that ends single-ID mode.
func SingleIDHint() string {
	u := lookupUser(hostUID())
	e := &NoSubIDError{User: u.name, UID: u.uid, File: subFile("uid") + " and " + subFile("gid"), local: u.local}
	return e.Hint()
}

// OverlapError says that two ranges have IDs in common, or that a range contains
// the user's own ID (Own), so that they make no map.
type OverlapError struct {
	File string
	A, B Range
	Own  bool
}

func (e *OverlapError) Error() string {
	if e.Own {
		return fmt.Sprintf("range %s in %s contains the user's own ID %d", e.A, e.File, e.B.Start)
	}
	return fmt.Sprintf("ranges %s and %s in %s overlap", e.A, e.B, e.File)
}

// Hint replaces a range by a free one.
func (e *OverlapError) Hint() string {
	bad, kind := e.B, strings.TrimPrefix(e.File, "/etc/sub")
	if e.Own {
		bad = e.A
	}
	return sudo(fmt.Sprintf("usermod --del-sub%[1]ss %[2]s --add-sub%[1]ss %[3]s %[4]s",
		kind, bad, freeRange(), lookupUser(hostUID()).name))
}

// MissingProgramError says that newuidmap or newgidmap is not installed.
type MissingProgramError struct{ Program string }

func (e *MissingProgramError) Error() string {
	return fmt.Sprintf("program %q is not installed", e.Program)
}

// Hint installs the package that has it.
func (e *MissingProgramError) Hint() string {
	release, _ := os.ReadFile("/etc/os-release")
	var like []string
	for line := range strings.Lines(string(release)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			like = append(like, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	for _, id := range like {
		switch id {
		case "fedora", "rhel", "centos":
			return sudo("dnf install -y shadow-utils")
		case "arch":
			return sudo("pacman -S --noconfirm shadow")
		case "suse", "opensuse":
			return sudo("zypper install -y shadow")
		case "alpine":
			return sudo("apk add shadow-subids")
		}
	}
	return sudo("apt-get install -y uidmap")
}

// NotSetuidError says that newuidmap or newgidmap has not the power to write
// more than one's own ID into a map.
type NotSetuidError struct{ Path string }

func (e *NotSetuidError) Error() string {
	return fmt.Sprintf("program %q is neither setuid root nor has it the file capability that it needs", e.Path)
}

// Hint gives it back.
func (e *NotSetuidError) Hint() string {
	return sudo("sh -c 'chown root: " + e.Path + " && chmod u+s " + e.Path + "'")
}

// UsernsDisabledError says that the kernel makes no user namespaces for us.
type UsernsDisabledError struct {
	Sysctl string // which setting forbids it; "" if none does
	Value  string
	Cause  error
}

func (e *UsernsDisabledError) Error() string {
	if e.Sysctl == "" {
		return fmt.Sprintf("the kernel refuses user namespaces: %v", e.Cause)
	}
	return fmt.Sprintf("user namespaces are switched off: %s is %s", e.Sysctl, e.Value)
}

func (e *UsernsDisabledError) Unwrap() error { return e.Cause }

// Hint switches them on for good; "" when no setting forbids them.
func (e *UsernsDisabledError) Hint() string {
	switch e.Sysctl {
	case "":
		return ""
	case sysctlClone:
		return persist(e.Sysctl, "1")
	}
	return persist(e.Sysctl, "28633")
}

// AppArmorError says that AppArmor keeps unprivileged programs without a profile
// from using user namespaces, as on Ubuntu since 23.10.
type AppArmorError struct{ Cause error }

func (e *AppArmorError) Error() string {
	return fmt.Sprintf("AppArmor forbids user namespaces to programs without a profile: %s is 1: %v", sysctlAppArmor, e.Cause)
}

func (e *AppArmorError) Unwrap() error { return e.Cause }

// Hint gives moss a profile that allows them, as apparmor.d(5) describes it. The
// restriction stays on for everything else.
func (e *AppArmorError) Hint() string {
	self, err := os.Executable()
	if err != nil {
		self = "/usr/bin/moss"
	}
	profile := `abi <abi/4.0>, include <tunables/global> profile moss "` + self + `" flags=(unconfined) { userns, }`
	return sudo(`sh -c 'echo '\''` + profile + `'\'' >/etc/apparmor.d/moss && apparmor_parser -r /etc/apparmor.d/moss'`)
}

const (
	sysctlClone    = "kernel.unprivileged_userns_clone" // Debian's and Arch's patch
	sysctlMax      = "user.max_user_namespaces"
	sysctlMaxMount = "user.max_mnt_namespaces"
	sysctlAppArmor = "kernel.apparmor_restrict_unprivileged_userns"
)

// refusal explains an error of unshare(2), of a mount or of a map by what is
// known to cause it.
func refusal(err error) error {
	errno, ok := err.(unix.Errno)
	if !ok {
		return err
	}
	switch errno {
	case unix.ENOSPC, unix.EUSERS:
		for _, name := range []string{sysctlMax, sysctlMaxMount} {
			if value := sysctl(name); value == "0" {
				return &UsernsDisabledError{Sysctl: name, Value: value, Cause: err}
			}
		}
		return &UsernsDisabledError{Sysctl: sysctlMax, Value: sysctl(sysctlMax), Cause: err}
	case unix.EPERM, unix.EACCES:
		if value := sysctl(sysctlClone); value == "0" {
			return &UsernsDisabledError{Sysctl: sysctlClone, Value: value, Cause: err}
		}
		if sysctl(sysctlAppArmor) == "1" {
			return &AppArmorError{Cause: err}
		}
	}
	return &UsernsDisabledError{Cause: err}
}

// mapRefusal explains why newuidmap or newgidmap failed.
func mapRefusal(path, stderr string) error {
	if !canMap(path) {
		return &NotSetuidError{Path: path}
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err == nil && on == 1 {
		return fmt.Errorf("%s has no effect under no_new_privs, which is set for this process: %s", filepath.Base(path), stderr)
	}
	if strings.Contains(stderr, "owned by a different user") {
		// newuidmap wants the primary group of the user database. Joining later
		// from another group is no problem.
		return fmt.Errorf("the first moss after a login must run with the user's primary group, not under sg or newgrp (%s)", stderr)
	}
	if sysctl(sysctlAppArmor) == "1" && strings.Contains(stderr, "not permitted") {
		return &AppArmorError{Cause: fmt.Errorf("%s", stderr)}
	}
	return fmt.Errorf("%s", stderr)
}

// canMap says whether a program is setuid root or has file capabilities.
func canMap(path string) bool {
	info, err := os.Stat(path)
	if err != nil || (info.Mode()&os.ModeSetuid != 0 && owner(info) == 0) || os.Geteuid() == 0 {
		return true
	}
	size, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && size > 0
}

// findProgram looks where distributions put it too: PATH may be a short one.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
		return path, nil
	}
	for _, dir := range []string{"/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", "/run/wrappers/bin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", &MissingProgramError{Program: name}
}

func sysctl(name string) string {
	data, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(data))
}

func persist(name, value string) string {
	return sudo(fmt.Sprintf("sh -c 'echo %s=%s >/etc/sysctl.d/90-moss.conf && sysctl --system'", name, value))
}

func sudo(command string) string {
	if os.Getuid() == 0 {
		return command
	}
	return "sudo " + command
}
