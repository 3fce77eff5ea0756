package userns

import (
	"os"
	"slices"
	"strings"
)

// The lists of moss_enter_skips in enter/enter.c, which a test compares.
var (
	hostVerbs   = []string{"version", "help", "completion", "doctor", "man", "config", "login", "logout", "search"}
	hostAnswers = []string{"--help", "-h", "--version", "-v"}
	// valueFlags are the flags before the verb whose value is the next word.
	valueFlags = []string{"--cgroup-manager", "--log-level", "--registries-conf", "--root", "--runroot", "--runtime", "--volume-path", "--volumepath"}
)

// Needed says whether a command line (args[0] is the program) must run inside
// the kept namespaces. It does not for the verbs that only print or that test
// the host, for a line without a verb, and under _MOSS_HOST=1.
func Needed(args []string) bool {
	return os.Getenv(hostVar) != "1" && needed(args)
}

func needed(args []string) bool {
	for i := 1; i < len(args); i++ {
		if !strings.HasPrefix(args[i], "-") {
			// image scp runs ssh, which is to find the user's own name and home.
			isCopy := args[i] == "image" && i+1 < len(args) && args[i+1] == "scp"
			return !slices.Contains(hostVerbs, args[i]) && !isCopy
		}
		if slices.Contains(hostAnswers, args[i]) {
			return false
		}
		if slices.Contains(valueFlags, args[i]) {
			i++
		}
	}
	return false
}
