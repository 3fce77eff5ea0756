// Neither a limit of CPU time nor a change of it matters to what lives for
// milliseconds: looking for one at every start would.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command moss runs containers without root and without a daemon.
package main

import (
	"os"

	"moss/cmd/moss/cli"
	_ "moss/userns/enter" // joins the user's namespaces before Go starts
)

func main() { os.Exit(cli.Main(os.Args)) }
