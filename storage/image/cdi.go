package image

// CDIRequest looks devices up in the specifications of the Container Device
// Interface, and prints CDIEdits as JSON.
type CDIRequest struct {
	Dirs    []string // those that do not exist are empty; a later one goes before an earlier one
	Devices []string // vendor/class=name
}

// CDIEdits is what a container with some devices is to have.
type CDIEdits struct {
	Env    []string  `json:",omitempty"` // NAME=value
	Nodes  []CDINode `json:",omitempty"`
	Mounts []CDINode `json:",omitempty"`
	Hooks  []CDIHook `json:",omitempty"`
	GIDs   []uint32  `json:",omitempty"` // more groups of the program
}

// CDINode is a device node or a mount.
type CDINode struct {
	Host, Path string
	Type       string   `json:",omitempty"` // of a mount; "" is a bind mount
	Options    []string `json:",omitempty"`
}

// CDIHook is an OCI hook.
type CDIHook struct {
	Stage   string // as the OCI specification names it
	Path    string
	Args    []string `json:",omitempty"`
	Env     []string `json:",omitempty"`
	Timeout int      `json:",omitempty"` // seconds
}
