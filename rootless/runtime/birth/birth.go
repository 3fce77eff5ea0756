// Package birth clones the first process of a container, or one more process in
// it, and talks with it until it has become the user's program.
//
// It imports the standard library and golang.org/x/sys only: the monitor links it.
package birth

// Namespace joins an existing namespace instead of making a new one.
type Namespace struct {
	Type string // pid, network, ipc, uts, cgroup, user, time (OCI names)
	Path string // /proc/PID/ns/… or a bound file
}

// IDMap is one line of a uid_map or gid_map.
type IDMap struct{ Container, Host, Size int }

// Request describes the process to clone.
type Request struct {
	Runtime string // path of moss-runtime
	// Document is the path of the JSON document that the new process reads:
	// runtime.Document for Start, runtime.ExecDocument for Exec.
	Document string
	// Flags are the CLONE_NEW* flags of the namespaces to make.
	Flags  uintptr
	Join   []Namespace `json:",omitempty"`
	UIDMap []IDMap     `json:",omitempty"` // with CLONE_NEWUSER
	GIDMap []IDMap     `json:",omitempty"`
	// Cgroup is the directory to be born in; "" stays in the caller's. Being
	// born costs 0.1 ms, being migrated 10 ms (an RCU grace period).
	Cgroup string `json:",omitempty"`
	// PreserveFDs is how many descriptors from 3 on the program inherits.
	PreserveFDs int `json:",omitempty"`
}
