// It lives for milliseconds, and need not look for a limit of CPU time.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command moss-runtime is moss's own OCI runtime, and the init stage of every container.
package main

import (
	"os"

	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/rootless/runtime/command"
	_ "moss/userns/enter" // joins namespaces before Go has threads
)

var version = "unknown" // set when linking

// The init stages change what belongs to a thread, and execve keeps the ID of the
// process only for its first one. Package initialisation is locked to that
// thread; LockOSThread later would be too, but starts one more thread to do so.
func init() {
	if len(os.Args) < 2 {
		return
	}
	switch os.Args[1] {
	case "init":
		os.Exit(runtime.Init(os.Args[2:]))
	case "exec-init":
		os.Exit(runtime.ExecInit(os.Args[2:]))
	case "hooks":
		os.Exit(runtime.Hooks(os.Args[2:]))
	case "bridge":
		os.Exit(birth.Bridge(os.Args[2:]))
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health-check" {
		os.Exit(command.HealthCheck(os.Args[2:]))
	}
	os.Exit(command.Main(os.Args[1:], version))
}
