package port

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"moss/slirp"
)

// InUseError says that somebody else has a port of the host.
type InUseError struct {
	Port   slirp.Port
	Number uint16
	// Holder is who has it, if that is known: container "web".
	Holder string
	name   string
}

// Error names the holder, or what can be known of it.
func (e *InUseError) Error() string {
	if e.Holder != "" {
		return fmt.Sprintf("cannot publish port %s: address already in use: %s has it", e.name, e.Holder)
	}
	return fmt.Sprintf("cannot publish port %s: address already in use%s", e.name, holder("/proc/net/"+e.Port.Proto, e.Port.Proto, e.Number))
}

// Unwrap makes it the EADDRINUSE that it was.
func (e *InUseError) Unwrap() error { return syscall.EADDRINUSE }

// holder says what the kernel tells of who has a port, or nothing: whether it is one of
// the user's programs. Which one cannot be seen from moss's user namespace. See
// proc_net(5); table is the path of its IPv4 table, and with a 6 that of IPv6.
func holder(table, proto string, number uint16) string {
	const listening = "0A"
	for _, path := range []string{table, table + "6"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 8 {
				continue
			}
			_, port, ok := strings.Cut(fields[1], ":")
			if n, err := strconv.ParseUint(port, 16, 16); !ok || err != nil || uint16(n) != number || proto == "tcp" && fields[3] != listening {
				continue
			}
			whose := "another user's program has it"
			if fields[7] == strconv.Itoa(os.Getuid()) {
				whose = "a program of yours has it"
			}
			return fmt.Sprintf(": %s ('ss -lnp --%s sport = %d' shows which)", whose, proto, number)
		}
	}
	return ""
}
