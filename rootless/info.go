package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/slirp"
	"moss/storage/driver"
	"moss/userns"
)

// Info is what moss is and runs on. Its JSON has podman's names and nesting, so
// that scripts written for podman find what they look for.
type Info struct {
	Host       HostInfo            `json:"host"`
	Store      StoreInfo           `json:"store"`
	Registries map[string][]string `json:"registries"`
	Plugins    map[string][]string `json:"plugins"`
	Version    VersionInfo         `json:"version"`
}

// HostInfo is about the machine, and what moss found on it.
type HostInfo struct {
	Arch              string       `json:"arch"`
	CgroupManager     string       `json:"cgroupManager"` // systemd, cgroupfs, none
	CgroupVersion     string       `json:"cgroupVersion"`
	CgroupControllers []string     `json:"cgroupControllers"` // delegated to containers
	CgroupParent      string       `json:"cgroupParent,omitempty"`
	CgroupWhy         string       `json:"cgroupWhy,omitempty"` // why there are none
	CPUs              int          `json:"cpus"`
	CPUUtilization    Utilization  `json:"cpuUtilization"`
	Distribution      Distribution `json:"distribution"`
	Hostname          string       `json:"hostname"`
	IDMappings        IDMappings   `json:"idMappings"`
	Kernel            string       `json:"kernel"`
	LogDriver         string       `json:"logDriver"`
	MemFree           int64        `json:"memFree"`
	MemTotal          int64        `json:"memTotal"`
	NetworkBackend    string       `json:"networkBackend"`
	Network           NetworkInfo  `json:"networkBackendInfo"`
	Monitor           Program      `json:"monitor"`
	OCIRuntime        Program      `json:"ociRuntime"`
	OS                string       `json:"os"`
	Pasta             Program      `json:"pasta"`
	Slirp4netns       Program      `json:"slirp4netns"`
	Security          Security     `json:"security"`
	SwapFree          int64        `json:"swapFree"`
	SwapTotal         int64        `json:"swapTotal"`
	Uptime            string       `json:"uptime"`
	LinkMode          string       `json:"linkmode"`
}

// Distribution is the host's, from os-release(5).
type Distribution struct {
	Distribution string `json:"distribution"`
	Version      string `json:"version"`
	Codename     string `json:"codename,omitempty"`
}

// Utilization is how the CPUs have been used since boot.
type Utilization struct {
	User   float64 `json:"userPercent"`
	System float64 `json:"systemPercent"`
	Idle   float64 `json:"idlePercent"`
}

// IDMappings are the kept user namespace's.
type IDMappings struct {
	GIDMap []MappedIDs `json:"gidmap"`
	UIDMap []MappedIDs `json:"uidmap"`
}

// MappedIDs is one line of an ID map.
type MappedIDs struct {
	Container int `json:"container_id"`
	Host      int `json:"host_id"`
	Size      int `json:"size"`
}

// NetworkInfo is what the network program says; PID 0 when it does not run.
type NetworkInfo struct {
	PID      int      `json:"pid,omitempty"`
	Uplink   string   `json:"uplink,omitempty"`
	Why      string   `json:"why,omitempty"`
	Networks []string `json:"networks,omitempty"`
}

// Program is one that moss uses; its path is "" when it is not there.
type Program struct {
	Name    string `json:"name,omitempty"`
	Path    string `json:"path"`
	Version string `json:"version,omitempty"`
}

// Security is what shields the host from containers here.
type Security struct {
	AppArmor     bool   `json:"apparmorEnabled"`
	Capabilities string `json:"capabilities"`
	Rootless     bool   `json:"rootless"`
	Seccomp      bool   `json:"seccompEnabled"`
	SELinux      bool   `json:"selinuxEnabled"`
}

// StoreInfo is about images, containers and volumes.
type StoreInfo struct {
	ContainerStore     ContainerCounts   `json:"containerStore"`
	GraphDriverName    string            `json:"graphDriverName"`
	GraphOptions       map[string]string `json:"graphOptions"`
	GraphRoot          string            `json:"graphRoot"`
	GraphRootAllocated uint64            `json:"graphRootAllocated"`
	GraphRootUsed      uint64            `json:"graphRootUsed"`
	GraphStatus        map[string]string `json:"graphStatus"`
	ImageStore         ImageCounts       `json:"imageStore"`
	Root               string            `json:"root"`
	RunRoot            string            `json:"runRoot"`
	VolumePath         string            `json:"volumePath"`
}

// ContainerCounts are by status: what is neither running nor paused is stopped.
type ContainerCounts struct {
	Number  int `json:"number"`
	Paused  int `json:"paused"`
	Running int `json:"running"`
	Stopped int `json:"stopped"`
}

// ImageCounts says how many images there are.
type ImageCounts struct {
	Number int `json:"number"`
}

// VersionInfo is moss's version; the command line, which knows it, fills in Version.
type VersionInfo struct {
	APIVersion string `json:"APIVersion"`
	Version    string `json:"Version"`
	GoVersion  string `json:"GoVersion"`
	OsArch     string `json:"OsArch"`
	Os         string `json:"Os"`
}

// Info looks at everything. What cannot be found out is left empty: it is also
// called for to see what is wrong.
func (e *Engine) Info(ctx context.Context) (*Info, error) {
	i := &Info{
		Host:       hostInfo(ctx),
		Registries: e.searchRegistries(ctx),
		Plugins: map[string][]string{
			"log":     {"k8s-file", "json-file", "journald", "none", "passthrough", "passthrough-tty"},
			"network": {"bridge"},
			"volume":  {"local"},
		},
		Version: VersionInfo{
			GoVersion: goruntime.Version(), Os: goruntime.GOOS,
			OsArch: goruntime.GOOS + "/" + goruntime.GOARCH,
		},
	}
	e.cgroupInfo(ctx, &i.Host)
	e.networkInfo(ctx, &i.Host)
	if err := e.storeInfo(&i.Store); err != nil {
		return nil, err
	}
	return i, ctx.Err()
}

func (e *Engine) cgroupInfo(ctx context.Context, h *HostInfo) {
	h.CgroupVersion, h.CgroupManager, h.CgroupControllers = cgroupVersion(), "none", []string{}
	parent := e.parent(ctx)
	if err := parent.Why(); err != nil {
		h.CgroupWhy = err.Error()
		return
	}
	h.CgroupManager, h.CgroupParent = parent.Manager, parent.Dir
	h.CgroupControllers = append(h.CgroupControllers, parent.Controllers()...)
	if missing := parent.Missing(); len(missing) > 0 {
		h.CgroupWhy = "not delegated to you: " + strings.Join(missing, ", ")
	}
}

func (e *Engine) networkInfo(ctx context.Context, h *HostInfo) {
	h.NetworkBackend = "moss-net"
	info, err := slirp.Info(ctx, e.slirpDirs())
	switch {
	case err == nil:
		h.Network = NetworkInfo{PID: info.PID, Uplink: info.Uplink, Why: info.Why, Networks: info.Networks}
	case !errors.Is(err, os.ErrNotExist): // it is started with the first connection
		h.Network.Why = err.Error()
	}
}

func (e *Engine) storeInfo(s *StoreInfo) error {
	s.Root, s.GraphRoot = e.Paths.Root, filepath.Join(e.Paths.Root, "storage")
	s.RunRoot, s.VolumePath = e.Paths.Run, e.Volumes.All()
	s.GraphOptions, s.GraphStatus = map[string]string{}, map[string]string{}

	containers, err := e.All()
	if err != nil {
		return err
	}
	s.ContainerStore.Number = len(containers)
	for _, c := range containers {
		switch c.Look().Status {
		case container.StatusRunning, container.StatusRestarting:
			s.ContainerStore.Running++
		case container.StatusPaused:
			s.ContainerStore.Paused++
		default:
			s.ContainerStore.Stopped++
		}
	}
	images, err := e.Images.List()
	if err != nil {
		return err
	}
	s.ImageStore.Number = len(images)

	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return fmt.Errorf("cannot find out the storage driver: %w", err)
	}
	s.GraphDriverName = "overlay"
	switch d.Name {
	case driver.VFS:
		s.GraphDriverName = "vfs"
	case driver.Fuse:
		s.GraphOptions["overlay.mount_program"] = d.Program
	}
	s.GraphStatus["Native Overlay Diff"] = strconv.FormatBool(d.Name == driver.Native)
	if d.Why != "" {
		s.GraphStatus["Why"] = d.Why
	}
	s.GraphStatus["Backing Filesystem"] = d.FileSystem.Name
	for name, has := range map[string]bool{
		"Supports d_type": d.FileSystem.DType, "Supports xattr": d.FileSystem.XAttr,
		"Supports reflink": d.FileSystem.Reflink, "Supports owners": d.FileSystem.Owners,
	} {
		s.GraphStatus[name] = strconv.FormatBool(has)
	}
	owners, err := e.shift()
	if err != nil {
		return err
	}
	s.GraphStatus["Owner Shift"] = owners.Name
	if owners.Why != "" {
		s.GraphStatus["Owner Shift Why"] = owners.Why
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(e.Paths.Root, &fs); err == nil {
		s.GraphRootAllocated = fs.Blocks * uint64(fs.Bsize)
		s.GraphRootUsed = (fs.Blocks - fs.Bfree) * uint64(fs.Bsize)
	}
	return nil
}

// mappedIDs reads one of the kept namespace's maps.
func mappedIDs(path string) []MappedIDs {
	lines, _ := userns.ReadIDMap(path)
	ids := make([]MappedIDs, 0, len(lines))
	for _, l := range lines {
		ids = append(ids, MappedIDs{Container: l.Container, Host: l.Host, Size: l.Size})
	}
	return ids
}
