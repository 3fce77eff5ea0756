package cli

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/slirp"
)

// psJSON is one container in "ps --format json", with podman's names.
type psJSON struct {
	AutoRemove   bool
	Command      []string
	CreatedAt    string
	CIDFile      string
	Exited       bool
	ExitedAt     int64
	ExitCode     int
	ExposedPorts map[uint16][]string
	Id           string
	Image        string
	ImageID      string
	IsInfra      bool
	Labels       map[string]string
	Mounts       []string
	Names        []string
	Namespaces   psNamespaces
	Networks     []string
	Pid          int
	Pod          string
	PodName      string
	Ports        []psPort
	Restarts     int
	Size         *psSize
	StartedAt    int64
	State        string
	Status       string
	Created      int64
}

type psNamespaces struct {
	CgroupNS string `json:"cgroup,omitempty"`
	IPC      string `json:"ipc,omitempty"`
	MNT      string `json:"mnt,omitempty"`
	NET      string `json:"net,omitempty"`
	PIDNS    string `json:"pidns,omitempty"`
	UTS      string `json:"uts,omitempty"`
	User     string `json:"user,omitempty"`
}

type psPort struct {
	HostIP        string `json:"host_ip"`
	ContainerPort uint16 `json:"container_port"`
	HostPort      uint16 `json:"host_port"`
	Range         uint16 `json:"range"`
	Protocol      string `json:"protocol"`
}

type psSize struct {
	RootFsSize int64 `json:"rootFsSize"`
	RwSize     int64 `json:"rwSize"`
}

// MarshalJSON is for {{json .}}.
func (r psRow) MarshalJSON() ([]byte, error) { return json.Marshal(r.json()) }

func (r psRow) json() psJSON {
	s := &r.container.Spec
	out := psJSON{
		AutoRemove: r.AutoRemove(), Command: r.command(), CreatedAt: r.CreatedHuman(), CIDFile: r.CIDFile(),
		Exited: r.Exited(), ExitCode: r.ExitCode(), ExposedPorts: r.ExposedPorts(), Id: s.ID, Image: r.Image(),
		ImageID: s.Image.ID, Labels: s.Labels, Mounts: r.Mounts(), Names: []string{s.Name}, Networks: networkNames(s),
		Pid: r.Pid(), Pod: s.Pod, Restarts: r.Restarts(), State: r.State(), Status: r.Status(), Created: s.Created.Unix(),
		ExitedAt: r.ExitedAt(), StartedAt: r.StartedAt(), Namespaces: r.Namespaces(),
	}
	for _, p := range r.ports() {
		out.Ports = append(out.Ports, psPort{hostIP(p), p.ContainerPort, p.HostPort, max(p.Count, 1), p.Proto})
	}
	if r.size {
		sizes := r.sizes()
		out.Size = &psSize{RootFsSize: sizes.image + sizes.rw, RwSize: sizes.rw}
	}
	return out
}

// Namespaces are looked at with --ns only: there are seven of each container.
func (r psRow) Namespaces() psNamespaces {
	if !r.ns {
		return psNamespaces{}
	}
	return psNamespaces{r.CGROUPNS(), r.IPC(), r.MNT(), r.NET(), r.PIDNS(), r.UTS(), r.USERNS()}
}

// ExposedPorts are the protocols of each port that the image or --expose names.
func (r psRow) ExposedPorts() map[uint16][]string {
	var out map[uint16][]string
	for _, exposed := range r.container.Spec.Network.Exposed {
		number, proto, _ := strings.Cut(exposed, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		if out == nil {
			out = map[uint16][]string{}
		}
		out[uint16(port)] = append(out[uint16(port)], proto)
	}
	return out
}

// hostIP is the address of a published port; "" is every address.
func hostIP(p slirp.Port) string {
	if p.HostIP == (netip.Addr{}) {
		return ""
	}
	return p.HostIP.String()
}

// The namespaces are shown by their inode numbers, as lsns(8) does.
func (r psRow) namespace(kind string) string {
	if r.Pid() == 0 {
		return ""
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", r.Pid(), kind))
	if err != nil {
		return ""
	}
	_, number, _ := strings.Cut(link, ":[")
	return strings.TrimSuffix(number, "]")
}

func (r psRow) CGROUPNS() string { return r.namespace("cgroup") }
func (r psRow) IPC() string      { return r.namespace("ipc") }
func (r psRow) MNT() string      { return r.namespace("mnt") }
func (r psRow) NET() string      { return r.namespace("net") }
func (r psRow) PIDNS() string    { return r.namespace("pid") }
func (r psRow) UTS() string      { return r.namespace("uts") }
func (r psRow) USERNS() string   { return r.namespace("user") }

type sizes struct{ rw, image int64 }

// sizes adds up what the container has written: only with --size, it walks files.
func (r psRow) sizes() sizes {
	var s sizes
	if !r.size {
		return s
	}
	s.rw = diskUsage(filepath.Join(r.container.Dir, "upper"))
	if img := r.images.get(r.container.Spec.Image.ID); img != nil {
		s.image = img.Size
	}
	return s
}

// Size is empty without --size.
func (r psRow) Size() string {
	if !r.size {
		return ""
	}
	s := r.sizes()
	return fmt.Sprintf("%s (virtual %s)", format.Size(s.rw, ""), format.Size(s.rw+s.image, ""))
}

// diskUsage adds up the sizes of the files below dir, each inode once. What
// cannot be read is left out: the container may be writing.
func diskUsage(dir string) int64 {
	var total int64
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		total += info.Size()
		return nil
	})
	return total
}

// program is the first word of the command, as Command shows it.
func (r *row) program(images *imageCache) string {
	if words := commandOf(&r.container.Spec, images.get); len(words) > 0 {
		return words[0]
	}
	return ""
}

// startsOnBoot says whether the restart policy wants it to be started when the
// machine has been: unless-stopped leaves alone what was stopped by hand.
func (r *row) startsOnBoot() bool {
	if r.container.Spec.Labels[rootless.UnitLabel] != "" { // its unit does
		return false
	}
	switch r.container.Spec.Lifecycle.Restart {
	case "always":
		return true
	case "unless-stopped":
		return r.view.Live != nil || r.view.Last == nil || !r.view.Last.StoppedByUser
	}
	return false
}
