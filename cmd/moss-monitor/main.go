// It has one processor in any case, and need not watch its cgroup for more.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command moss-monitor supervises one container after moss has gone. moss starts
// it; see package monitor.
package main

import (
	"os"
	"path/filepath"

	"moss/rootless/monitor"
	"moss/rootless/monitor/reaper"
)

func main() {
	// As moss-init it is PID 1 of a container with --init; see package reaper.
	if filepath.Base(os.Args[0]) == "moss-init" && len(os.Args) > 2 {
		os.Exit(reaper.Main(os.Args[1], os.Args[2:]))
	}
	os.Exit(monitor.Main(os.Args))
}
