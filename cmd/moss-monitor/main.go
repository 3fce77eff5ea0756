// Command moss-monitor supervises one container after moss has gone. moss starts
// it; see package monitor.
package main

import (
	"os"

	"moss/rootless/monitor"
)

func main() { os.Exit(monitor.Main(os.Args)) }
