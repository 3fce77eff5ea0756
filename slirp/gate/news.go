package gate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"moss/slirp"
)

// The kernel tells of refused packets by nfnetlink_log: linux/netfilter/nfnetlink_log.h.
const (
	nfulnlPacket = unix.NFNL_SUBSYS_ULOG << 8
	nfulnlConfig = unix.NFNL_SUBSYS_ULOG<<8 | 1

	nfulaPayload = 9
	nfulaPrefix  = 10

	nfulaConfigCommand = 1
	nfulaConfigMode    = 2
	nfulaConfigQueue   = 5

	commandBind = 1
	copyPacket  = 2
)

// listen has the kernel tell. The goroutine ends with Close.
func (g *Guard) listen() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.news != nil {
		return nil
	}
	fd := -1
	err := g.do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
		return err
	})
	if err == nil {
		if err = subscribe(fd); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot hear of refused packets: %w", err)
	}
	g.news = os.NewFile(uintptr(fd), "nflog")
	go g.read(g.news)
	return nil
}

// subscribe binds the socket to the group.
func subscribe(fd int) error {
	mode := []byte{0, 0, 0, 128, copyPacket, 0} // 128 bytes of each
	for i, attr := range []*nl.RtAttr{
		nl.NewRtAttr(nfulaConfigCommand, []byte{commandBind}),
		nl.NewRtAttr(nfulaConfigMode, mode),
		nl.NewRtAttr(nfulaConfigQueue, []byte{0, 0, 0, 1}), // at once
	} {
		request := nl.NewNetlinkRequest(nfulnlConfig, unix.NLM_F_ACK)
		request.Seq = uint32(i + 1)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0, ResId: nl.Swap16(logGroup)})
		request.AddData(attr)
		if err := unix.Sendto(fd, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		// The kernel answers before sendto(2) returns.
		buffer := make([]byte, 4096)
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
				if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
					return unix.Errno(-code)
				}
			}
		}
	}
	return nil
}

func (g *Guard) read(news *os.File) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := news.Read(buffer)
		if errors.Is(err, unix.ENOBUFS) {
			continue // some have been lost
		}
		if err != nil {
			return
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if m.Header.Type == nfulnlPacket && len(m.Data) > 4 {
				g.tell(m.Data[4:])
			}
		}
	}
}

// tell gives one packet to the Gate that refused it.
func (g *Guard) tell(data []byte) {
	attrs, err := nl.ParseRouteAttr(data)
	if err != nil {
		return
	}
	var id string
	var packet []byte
	for _, a := range attrs {
		switch a.Attr.Type &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case nfulaPrefix:
			id = strings.TrimRight(string(a.Value), "\x00")
		case nfulaPayload:
			packet = a.Value
		}
	}
	g.mu.Lock()
	gate := g.gates[id]
	g.mu.Unlock()
	if refusal, ok := dissect(packet); ok && gate != nil {
		gate.refused(refusal)
	}
}

// dissect reads where a packet was to go.
func dissect(p []byte) (r slirp.Refusal, ok bool) {
	var proto byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		r.Address, proto = netip.AddrFrom4([4]byte(p[16:20])), p[9]
		p = p[min(len(p), int(p[0]&0xf)*4):]
	case len(p) >= 40 && p[0]>>4 == 6:
		r.Address, proto = netip.AddrFrom16([16]byte(p[24:40])), p[6]
		p = p[40:]
		for len(p) >= 8 && (proto == unix.IPPROTO_HOPOPTS || proto == unix.IPPROTO_ROUTING || proto == unix.IPPROTO_DSTOPTS) {
			proto, p = p[0], p[min(len(p), 8+int(p[1])*8):]
		}
	default:
		return r, false
	}
	switch proto {
	case unix.IPPROTO_TCP:
		r.Protocol = "tcp"
	case unix.IPPROTO_UDP:
		r.Protocol = "udp"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		r.Protocol = "icmp"
	default:
		r.Protocol = strconv.Itoa(int(proto))
	}
	if (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_UDP) && len(p) >= 4 {
		r.Port = binary.BigEndian.Uint16(p[2:])
	}
	return r, true
}
