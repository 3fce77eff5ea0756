// Command box is what the tests run inside containers: many small programs in
// one static file, so that no test needs a foreign image.
//
// It is called as `box PROGRAM ARG…`, or through a link named after the program.
// The scripts' image, localhost/box, is this file as /bin/box with
// such links beside it. `box programs` lists them.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A program returns its exit code.
type program struct {
	name, help string
	run        func(args []string) int
}

// programs is filled in main: "do" and "programs" look at it.
var programs []program

func main() {
	programs = slices.Concat(processPrograms, identityPrograms, filePrograms, networkPrograms, notifyPrograms, managerPrograms, loadPrograms, crashPrograms, shellPrograms, []program{
		{"do", "PROGRAM ARG… , PROGRAM ARG… : one after the other, until one fails", do},
		{"try", "NAME…: do what a container must not; see `try list`", try},
		{"programs", "list the programs", list},
	})
	args := os.Args
	// "box" may come twice: as entry point, and typed by habit.
	for len(args) > 1 && filepath.Base(args[0]) == "box" {
		args = args[1:]
	}
	if filepath.Base(args[0]) == "box" {
		os.Exit(list(nil))
	}
	os.Exit(run(filepath.Base(args[0]), args[1:]))
}

func run(name string, args []string) int {
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	if i < 0 {
		return fail("no program %q; box programs lists them", name)
	}
	return programs[i].run(args)
}

func list([]string) int {
	for _, p := range programs {
		fmt.Printf("%-10s %s\n", p.name, p.help)
	}
	return 0
}

func do(args []string) int {
	for len(args) > 0 {
		end := slices.Index(args, ",")
		if end < 0 {
			end = len(args)
		}
		if end == 0 {
			return fail("do: nothing before the comma")
		}
		if code := run(args[0], args[1:end]); code != 0 {
			return code
		}
		args = args[min(end+1, len(args)):]
	}
	return 0
}

// fail complains on stderr and returns 1.
func fail(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, "box: "+format+"\n", args...)
	return 1
}

// arg returns the i-th argument, or def when it is not there.
func arg(args []string, i int, def string) string {
	if i < len(args) {
		return args[i]
	}
	return def
}
