package syntax

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
)

// AccountLine checks that a line for /etc/passwd or /etc/group is one line of so
// many fields.
func AccountLine(s string, fields int) error {
	if strings.ContainsAny(s, "\n\x00") {
		return fmt.Errorf("it is more than one line")
	}
	if n := strings.Count(s, ":") + 1; n != fields {
		return fmt.Errorf("it has %d fields, separated by colons; want %d", n, fields)
	}
	return nil
}

// ZoneInfo is where the host keeps its time zones.
const ZoneInfo = "/usr/share/zoneinfo"

// TimeZone checks the name of a time zone of the host, or local.
func TimeZone(s string) error {
	if s == "local" {
		_, err := os.Stat("/etc/localtime")
		return cause(err)
	}
	if path.IsAbs(s) || s != path.Clean(s) || slices.Contains(strings.Split(s, "/"), "..") {
		return fmt.Errorf("it is not the name of a time zone")
	}
	if info, err := os.Stat(path.Join(ZoneInfo, s)); err != nil || !info.Mode().IsRegular() {
		return fmt.Errorf("the host has no such time zone in %s", ZoneInfo)
	}
	return nil
}

// personalityWords are what personality(2) knows: two domains, and flags.
var personalityWords = [...]string{"LINUX", "LINUX32", "UNAME26", "ADDR_NO_RANDOMIZE", "FDPIC_FUNCPTRS", "MMAP_PAGE_ZERO", "ADDR_COMPAT_LAYOUT",
	"READ_IMPLIES_EXEC", "ADDR_LIMIT_32BIT", "SHORT_INODE", "WHOLE_SECONDS", "STICKY_TIMEOUTS", "ADDR_LIMIT_3GB"}

// Personality reads a list of names of personality(2), with or without PER_, and
// returns the domain first.
func Personality(s string) ([]string, error) {
	out := []string{"LINUX"}
	for _, word := range strings.Split(s, ",") {
		word = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(word)), "PER_")
		switch i := slices.Index(personalityWords[:], word); {
		case i < 0:
			return nil, fmt.Errorf("unknown name %q: want LINUX, LINUX32 or one of %s", word, strings.Join(personalityWords[2:], ", "))
		case i < 2:
			out[0] = word
		default:
			out = append(out, word)
		}
	}
	return out, nil
}
