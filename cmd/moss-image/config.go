package main

import (
	"encoding/json"
	"os"

	"moss/config"
	"moss/config/files"
	"moss/systemd/cgroup"
)

// readConfig reads the configuration files, prints what they set, and leaves it in
// the run directory for every moss that comes until one of them changes.
func readConfig(run string) error {
	r, err := files.Read(config.Here(), cgroup.HostUID())
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	r.Config.Warnings = nil // for moss config alone, which reads the files anew
	return r.Write(run)
}
