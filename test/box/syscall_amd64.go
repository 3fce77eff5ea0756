package main

import "syscall"

const (
	sysKeyctl          = 250
	sysSetns           = 308
	sysRenameat2       = 316
	sysBPF             = 321
	sysExecveat        = 322
	sysPidfdSendSignal = 424
	sysMoveMount       = 429
	sysClone3          = 435
)

// oldSteps are what newer architectures have only in the form with a directory.
var oldSteps = []step{
	{syscall.SYS_MKDIR, "mkdir"}, {syscall.SYS_RENAME, "rename"}, {syscall.SYS_LINK, "link"}, {syscall.SYS_SYMLINK, "symlink"},
	{syscall.SYS_UNLINK, "unlink"}, {syscall.SYS_RMDIR, "rmdir"}, {syscall.SYS_FORK, "fork"}, {syscall.SYS_VFORK, "vfork"},
}
