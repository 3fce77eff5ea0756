// Command moss runs containers without root and without a daemon.
package main

import (
	"os"

	"moss/cmd/moss/cli"
	_ "moss/userns/enter" // joins the user's namespaces before Go starts
)

func main() { os.Exit(cli.Main(os.Args)) }
