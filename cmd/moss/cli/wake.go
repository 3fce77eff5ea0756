package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/rootless/container"
)

// WakeFlags have a container wait for its clients.
type WakeFlags struct {
	Wake []string `sep:"none" help:"Start the program when a client connects to this published TCP port of the host; until then the container waits." placeholder:"[tcp:]HOSTPORT" group:"Life"`
	Idle string   `help:"Stop the program when nobody has been connected for so long; the container then waits again." placeholder:"TIME" group:"Life"`
}

func (f *WakeFlags) given() bool { return len(f.Wake) > 0 || f.Idle != "" }

// read lays the flags over what the container has. The word none is no port to wake it.
func (f *WakeFlags) read(v *flagValues, n *container.Network) {
	if len(f.Wake) > 0 {
		n.Wake = nil
	}
	if len(f.Wake) == 1 && f.Wake[0] == "none" {
		n.Idle = 0
	} else {
		v.each("wake", f.Wake, func(s string) error {
			port, err := tcpPort(s)
			if err == nil && !slices.Contains(n.Wake, port) {
				n.Wake = append(n.Wake, port)
			}
			return err
		})
	}
	v.one("idle", f.Idle, func(s string) (err error) {
		n.Idle, err = time.ParseDuration(s)
		if err == nil && n.Idle < 0 {
			err = fmt.Errorf("want a time as 5m, or 0 for never")
		}
		return err
	})
}

// remembered has a container that waits for clients wait again after a reboot, if its
// restart policy says nothing of it.
func (f *WakeFlags) remembered(s *container.Spec) {
	if len(s.Network.Wake) > 0 && s.Lifecycle.Restart == "" {
		s.Lifecycle.Restart = "unless-stopped"
	}
}

// tcpPort reads a port, which may say that it is one of TCP.
func tcpPort(s string) (uint16, error) {
	proto, number, ok := strings.Cut(s, ":")
	if !ok {
		proto, number = "tcp", s
	}
	port, err := strconv.ParseUint(number, 10, 16)
	switch {
	case proto != "tcp":
		return 0, fmt.Errorf("protocol %q cannot be: want tcp", proto)
	case err != nil || port == 0:
		return 0, fmt.Errorf("%q is not a port", number)
	}
	return uint16(port), nil
}

// showWake are the ports as the flag takes them.
func showWake(n *container.Network) (out []string) {
	for _, port := range n.Wake {
		out = append(out, "tcp:"+strconv.Itoa(int(port)))
	}
	return out
}
