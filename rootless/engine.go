// Package rootless runs containers: Engine has one method per verb, one file per verb.
package rootless

import (
	"context"
	"io"
	"sync"

	"moss/config"
	"moss/rootless/monitor/client"
	"moss/storage/image"
	"moss/storage/secret"
	"moss/storage/volume"
	"moss/systemd/cgroup"
	"moss/userns"
)

// Engine is moss's verbs over one user's containers. It runs inside the user's
// kept namespaces; see userns.
type Engine struct {
	Paths   Paths
	Images  *image.Images
	Volumes *volume.Volumes
	// Config is what the configuration files set; nil for nothing.
	Config  *config.Config
	Secrets *secret.Secrets
	// MaxSize is what images may take on the disk, in bytes; 0 for any.
	MaxSize int64
	// Ahead is a monitor that waits for a container to start; nil for none.
	Ahead *client.Ahead
	// Sockets are listening sockets of a service manager, for the containers that are started.
	Sockets []Socket

	// CgroupManager is "systemd", "cgroupfs", "none", or "" for the best there is.
	CgroupManager string

	parentOnce  sync.Once
	parentFound *cgroup.Parent
}

// New makes the engine of the user whose files are in dirs.
func New(dirs userns.Dirs) *Engine {
	e := &Engine{
		Paths:   Paths{dirs},
		Images:  image.Open(dirs.Root),
		Volumes: volume.Open(dirs.Root),
		Secrets: secret.Open(dirs.Root),
	}
	e.Images.Remake = func() error {
		return e.ImageHelper(context.Background(), image.Request{Index: &image.IndexRequest{}}, io.Discard)
	}
	return e
}
