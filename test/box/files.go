package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

var filePrograms = []program{
	{"cat", "[FILE…]: to stdout", cat},
	{"write", "FILE TEXT…: write a line", write},
	{"append", "FILE TEXT…: append a line", appendLine},
	{"mkdir", "DIR…: with parents", mkdir},
	{"link", "TARGET NAME: a symbolic link", symlink},
	{"chown", "UID:GID FILE", chown},
	{"ls", "[DIR]: names", ls},
	{"stat", "FILE…: owner, mode and kind", stat},
	{"attributes", "FILE…: names and sizes of extended attributes", attributes},
	{"rm", "PATH…: with all below", rm},
	{"rounds", "DIR N: write the number of the round into N files, round after round", rounds},
	{"spread", "DIR: how many rounds lie between the files of rounds", spread},
	{"mounts", "[TARGET]: target, type and options", mounts},
}

func cat(args []string) int {
	if len(args) == 0 {
		args = []string{"/dev/stdin"}
	}
	for _, name := range args {
		f := os.Stdin
		if name != "/dev/stdin" {
			var err error
			if f, err = os.Open(name); err != nil {
				return fail("%v", err)
			}
		}
		if _, err := io.Copy(os.Stdout, f); err != nil {
			return fail("%v", err)
		}
	}
	return 0
}

func write(args []string) int   { return put(os.O_TRUNC, args) }
func appendLine(a []string) int { return put(os.O_APPEND, a) }

func put(how int, args []string) int {
	if len(args) == 0 {
		return fail("write: which file?")
	}
	f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|how, 0o644)
	if err != nil {
		return fail("%v", err)
	}
	if _, err := fmt.Fprintln(f, strings.Join(args[1:], " ")); err != nil {
		return fail("%v", err)
	}
	if err := f.Close(); err != nil {
		return fail("%v", err)
	}
	return 0
}

func mkdir(args []string) int {
	for _, dir := range args {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fail("%v", err)
		}
	}
	return 0
}

func symlink(args []string) int {
	if len(args) != 2 {
		return fail("link: TARGET NAME")
	}
	if err := os.Symlink(args[0], args[1]); err != nil {
		return fail("%v", err)
	}
	return 0
}

func chown(args []string) int {
	var uid, gid int
	if len(args) != 2 {
		return fail("chown: UID:GID FILE")
	}
	if _, err := fmt.Sscanf(args[0], "%d:%d", &uid, &gid); err != nil {
		return fail("chown: %v", err)
	}
	if err := os.Lchown(args[1], uid, gid); err != nil {
		return fail("%v", err)
	}
	return 0
}

func ls(args []string) int {
	entries, err := os.ReadDir(arg(args, 0, "."))
	if err != nil {
		return fail("%v", err)
	}
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return 0
}

func stat(args []string) int {
	for _, name := range args {
		info, err := os.Lstat(name)
		if err != nil {
			return fail("%v", err)
		}
		s := info.Sys().(*syscall.Stat_t)
		fmt.Printf("%s %d:%d %s %d\n", name, s.Uid, s.Gid, info.Mode(), info.Size())
	}
	return 0
}

func attributes(args []string) int {
	for _, name := range args {
		list := make([]byte, 4096)
		n, err := syscall.Listxattr(name, list)
		if err != nil {
			return fail("%s: %v", name, err)
		}
		for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
			size, err := syscall.Getxattr(name, key, nil)
			if err != nil {
				return fail("%s: %s: %v", name, key, err)
			}
			fmt.Println(name, key, size)
		}
	}
	return 0
}

func rm(args []string) int {
	for _, name := range args {
		if _, err := os.Lstat(name); err != nil {
			return fail("%v", err)
		}
		if err := os.RemoveAll(name); err != nil {
			return fail("%v", err)
		}
	}
	return 0
}

func mounts(args []string) int {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fail("%v", err)
	}
	found := len(args) == 0
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(args) > 0 && filepath.Clean(args[0]) != f[4] {
			continue
		}
		found = true
		_, tail, _ := strings.Cut(line, " - ")
		t := strings.Fields(tail)
		fmt.Printf("%s %s %s,%s\n", f[4], t[0], f[5], t[len(t)-1])
	}
	if !found {
		return fail("%s is not a mount point", args[0])
	}
	return 0
}

// rounds goes on until it is killed. At any moment the files are of one round, or
// of two that follow each other.
func rounds(args []string) int {
	var n int
	if len(args) != 2 {
		return fail("rounds: DIR N")
	}
	if _, err := fmt.Sscanf(args[1], "%d", &n); err != nil {
		return fail("rounds: %v", err)
	}
	files := make([]*os.File, n)
	for i := range files {
		f, err := os.Create(filepath.Join(args[0], fmt.Sprintf("round%05d", i)))
		if err != nil {
			return fail("%v", err)
		}
		files[i] = f
	}
	for round := uint64(1); ; round++ {
		for _, f := range files {
			if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, round), 0); err != nil {
				return fail("%v", err)
			}
		}
		if round == 1 {
			fmt.Println("begun")
		}
	}
}

func spread(args []string) int {
	files, err := filepath.Glob(filepath.Join(arg(args, 0, "."), "round*"))
	if err != nil || len(files) == 0 {
		return fail("spread: no files: %v", err)
	}
	low, high := ^uint64(0), uint64(0)
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil || len(data) != 8 {
			return fail("spread: %s: %v", name, err)
		}
		round := binary.LittleEndian.Uint64(data)
		low, high = min(low, round), max(high, round)
	}
	fmt.Printf("%d files, %d\n", len(files), high-low)
	return 0
}
