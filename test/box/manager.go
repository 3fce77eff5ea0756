package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

var managerPrograms = []program{
	{"manager", "PROGRAM ARG…: execute it as the user's service manager is asked: systemctl, systemd-run, journalctl --user", manager},
	{"unit", "FILE [NAME]: give it to the user's service manager, with this very environment; without FILE take NAME away", unit},
	{"transient", "NAME PROPERTY=VALUE… PROGRAM ARG…: start it as a service of this name, with this very environment", transient},
}

// managerDir is the manager's runtime directory: a script has one of its own.
func managerDir() string { return fmt.Sprintf("/run/user/%d", os.Getuid()) }

// carried is what the scripts' programs need of the environment.
func carried() (out []string) {
	for _, name := range []string{"HOME", "PATH", "XDG_RUNTIME_DIR", "LANG", "MOSS_LIBEXEC"} {
		if value := os.Getenv(name); value != "" {
			out = append(out, name+"="+value)
		}
	}
	return out
}

func manager(args []string) int {
	path, err := exec.LookPath(arg(args, 0, ""))
	if err != nil {
		return fail("manager: %v", err)
	}
	os.Setenv("XDG_RUNTIME_DIR", managerDir())
	os.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+managerDir()+"/bus")
	return fail("manager: %v", syscall.Exec(path, slices.Insert(slices.Clone(args), 1, "--user"), os.Environ()))
}

func transient(args []string) int {
	run := []string{"systemd-run", "--quiet", "--unit=" + arg(args, 0, "")}
	for _, e := range carried() {
		run = append(run, "--setenv="+e)
	}
	args = args[1:]
	for len(args) > 0 && strings.Contains(args[0], "=") {
		run, args = append(run, "--property="+args[0]), args[1:]
	}
	return manager(append(append(run, "--"), args...))
}

func unit(args []string) int {
	dir := filepath.Join(managerDir(), "systemd", "user")
	name := filepath.Base(arg(args, 1, arg(args, 0, "")))
	drop := filepath.Join(dir, name+".d")
	var err error
	if arg(args, 0, "") == "" {
		err = os.RemoveAll(filepath.Join(dir, name))
		os.RemoveAll(drop)
	} else {
		var text []byte
		if text, err = os.ReadFile(args[0]); err == nil {
			err = os.MkdirAll(drop, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err == nil && strings.HasSuffix(name, ".service") {
			err = os.WriteFile(filepath.Join(drop, "script.conf"), []byte("[Service]\nEnvironment="+strings.Join(carried(), "\nEnvironment=")+"\n"), 0o644)
		}
	}
	if err != nil {
		return fail("unit: %v", err)
	}
	return manager([]string{"systemctl", "daemon-reload"})
}
