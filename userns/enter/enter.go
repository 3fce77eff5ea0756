// Package enter joins the user's kept namespaces before main begins: importing it
// links a C constructor, described in ARCHITECTURE.md and in enter.c.
//
// Only cmd/moss and cmd/moss-runtime import it. It needs cgo.
package enter

// #cgo CFLAGS: -O2 -Wall -Wextra
// #include <stdlib.h>
// #include "enter.h"
import "C"

import "unsafe"

// Joined says that this process is inside the kept namespaces, or inside those
// that _MOSS_JOIN named. If it is not, userns.Enter brings it there.
func Joined() bool { return C.moss_enter_joined != 0 }

// LostDir says that the working directory does not exist in the joined mount
// namespace (someone is in a mount namespace of his own): it is / now.
func LostDir() bool { return C.moss_enter_lost_cwd != 0 }

// Below says that whoever started this process is inside the kept namespaces too,
// as "moss unshare" brings programs there: what is mounted there is seen by both.
func Below() bool { return C.moss_enter_below != 0 }

// Monitor is the moss-monitor that the constructor has started ahead, for a
// command that will want one: the start socket (-1 if there is none), its PID, the
// cgroup that it was born in, "" for our own, and the ID of the container that it
// has begun to make, "" for none. It ends when the socket is closed.
func Monitor() (sock, pid int, home, id string) {
	return int(C.moss_enter_monitor), int(C.moss_enter_monitor_pid),
		C.GoString(&C.moss_enter_monitor_home[0]), C.GoString(&C.moss_enter_monitor_id[0])
}

// protocol and skips let a test compare enter.c with package userns.
const protocol = C.MOSS_ENTER_PROTOCOL

func skips(args []string) bool {
	argv := make([]*C.char, len(args)+1)
	for i, arg := range args {
		argv[i] = C.CString(arg)
		defer C.free(unsafe.Pointer(argv[i]))
	}
	return C.moss_enter_skips(C.int(len(args)), &argv[0]) != 0
}
