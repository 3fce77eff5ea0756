// It lives for milliseconds, and need not look for a limit of CPU time.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command moss-stage is the init stage of a container by itself: it becomes the
// container's program. moss-runtime has the same stage, with all that belongs to
// an OCI runtime, and with C: this one is a millisecond faster ready.
package main

import (
	"os"

	"moss/rootless/runtime"
)

// Package initialisation is locked to the process's first thread, the only one
// that keeps the ID of the process over execve; see moss-runtime.
func init() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		os.Exit(runtime.Init(os.Args[2:]))
	}
}

func main() {
	os.Stderr.WriteString("usage: moss-stage init DOCUMENT (the monitor starts it, with a socket as descriptor 3)\n")
	os.Exit(125)
}
