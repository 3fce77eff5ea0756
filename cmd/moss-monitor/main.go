// It has one processor in any case, and need not watch its cgroup for more.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command moss-monitor supervises one container after moss has gone. moss starts
// it; see package monitor.
package main

import (
	"os"

	"moss/rootless/monitor"
)

func main() { os.Exit(monitor.Main(os.Args)) }
