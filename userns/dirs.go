// Package userns makes, keeps and enters the user namespace of a user: subordinate
// IDs, ID maps, the pause process.
package userns

// Dirs are the two places where moss keeps files of one user.
type Dirs struct {
	// Root survives a reboot: images, container records, volumes.
	Root string
	// Run is on a tmpfs and is gone after a reboot: sockets, pids, exit files.
	Run string
}
