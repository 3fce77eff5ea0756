package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// socket speaks rtnetlink(7) in one network namespace, several messages at a time.
// The kernel answers before sendto(2) returns, so there is never anything to wait
// for; the library's sockets are watched by the Go poller all the same, which
// wakes a second thread for each message. Joining a container takes a dozen.
type socket struct {
	mu  sync.Mutex
	fd  int
	seq uint32
}

// openSocket opens one in the calling thread's namespace.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	return &socket{fd: fd}, nil
}

func (s *socket) close() { unix.Close(s.fd) }

// do sends the requests and returns each one's answer (of those that ask for
// something) and error. The kernel carries out what follows a refused one.
func (s *socket) do(requests ...*nl.NetlinkRequest) (answers [][]byte, errs []error, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	first := s.seq + 1
	for _, r := range requests {
		s.seq++
		r.Seq = s.seq
		r.Flags |= unix.NLM_F_REQUEST | unix.NLM_F_ACK
		out = append(out, r.Serialize()...)
	}
	if err := unix.Sendto(s.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, nil, err
	}
	answers, errs = make([][]byte, len(requests)), make([]error, len(requests))
	buffer := make([]byte, 16<<10)
	for left := len(requests); left > 0; {
		n, _, err := unix.Recvfrom(s.fd, buffer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return nil, nil, err
		}
		for _, m := range messages {
			i := int(m.Header.Seq - first)
			switch {
			case i < 0 || i >= len(requests): // of an earlier, broken conversation
			case m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4:
				if code := int32(nl.NativeEndian().Uint32(m.Data)); code != 0 {
					errs[i] = unix.Errno(-code)
				}
				left--
			default:
				answers[i] = append([]byte(nil), m.Data...)
			}
		}
	}
	return answers, errs, nil
}

// linkUp brings an interface up.
func linkUp(index int) *nl.NetlinkRequest {
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index, info.Flags, info.Change = int32(index), unix.IFF_UP, unix.IFF_UP
	r := nl.NewNetlinkRequest(unix.RTM_NEWLINK, 0)
	r.AddData(info)
	return r
}

// linkState asks for an interface, without its counters.
func linkState(index int) *nl.NetlinkRequest {
	info := nl.NewIfInfomsg(unix.AF_UNSPEC)
	info.Index = int32(index)
	r := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	r.AddData(info)
	const skipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	r.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	return r
}

// isUp says whether the interface of an answer to linkState carries packets.
func isUp(answer []byte) bool {
	if len(answer) < unix.SizeofIfInfomsg {
		return false
	}
	attrs, err := nl.ParseRouteAttr(answer[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_OPERSTATE && len(a.Value) > 0 {
			const up = 6 // IF_OPER_UP
			return a.Value[0] == up
		}
	}
	return false
}

// newAddress adds an address without waiting for duplicates to speak up.
func newAddress(index int, p netip.Prefix) *nl.NetlinkRequest {
	family, local := nl.FAMILY_V4, p.Addr().AsSlice()
	if p.Addr().Is6() {
		family = nl.FAMILY_V6
	}
	info := nl.NewIfAddrmsg(family)
	info.Index, info.Prefixlen = uint32(index), uint8(p.Bits())
	r := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.AddData(info)
	r.AddData(nl.NewRtAttr(unix.IFA_LOCAL, local))
	r.AddData(nl.NewRtAttr(unix.IFA_ADDRESS, local))
	if p.Addr().Is6() {
		r.AddData(nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
	} else if p.Bits() < 31 {
		broadcast := p.Masked().Addr().As4()
		for bit := p.Bits(); bit < 32; bit++ {
			broadcast[bit/8] |= 0x80 >> (bit % 8)
		}
		r.AddData(nl.NewRtAttr(unix.IFA_BROADCAST, broadcast[:]))
	}
	return r
}

// newRoute adds a route; to everywhere, if the prefix is not valid. Metric 0 leaves that to
// the kernel.
func newRoute(index int, to netip.Prefix, gateway netip.Addr, metric int) *nl.NetlinkRequest {
	info := nl.NewRtMsg()
	if info.Family = nl.FAMILY_V4; gateway.Is6() {
		info.Family = nl.FAMILY_V6
	}
	r := nl.NewNetlinkRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	r.AddData(info)
	if to.IsValid() {
		info.Dst_len = uint8(to.Bits())
		r.AddData(nl.NewRtAttr(unix.RTA_DST, to.Masked().Addr().AsSlice()))
	}
	r.AddData(nl.NewRtAttr(unix.RTA_GATEWAY, gateway.AsSlice()))
	r.AddData(nl.NewRtAttr(unix.RTA_OIF, nl.Uint32Attr(uint32(index))))
	if metric > 0 {
		r.AddData(nl.NewRtAttr(unix.RTA_PRIORITY, nl.Uint32Attr(uint32(metric))))
	}
	return r
}

// teach tells a bridge behind which of its ports a hardware address is, and to
// believe nobody else. Else frames go on to a namespace that had the address
// before and still goes down, and a container could take its neighbours' away.
func teach(port int, mac net.HardwareAddr) *nl.NetlinkRequest {
	const noARP, master, sticky = 0x40, 0x04, 0x40 // NUD_NOARP, NTF_MASTER, NTF_STICKY
	r := nl.NewNetlinkRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	r.AddData(&ndmsg{Family: unix.AF_BRIDGE, Index: uint32(port), State: noARP, Flags: master | sticky})
	r.AddData(nl.NewRtAttr(unix.NDA_LLADDR, mac))
	return r
}

// ndmsg is struct ndmsg; see rtnetlink(7).
type ndmsg struct {
	Family uint8
	Index  uint32
	State  uint16
	Flags  uint8
	Type   uint8
}

func (m *ndmsg) Len() int { return 12 }

func (m *ndmsg) Serialize() []byte {
	b := make([]byte, m.Len())
	b[0] = m.Family
	nl.NativeEndian().PutUint32(b[4:], m.Index)
	nl.NativeEndian().PutUint16(b[8:], m.State)
	b[10], b[11] = m.Flags, m.Type
	return b
}

// firstError is the first of what several requests met, but for those to ignore.
func firstError(errs []error, ignore ...error) error {
	for i, err := range errs {
		ignored := false
		for _, e := range ignore {
			ignored = ignored || errors.Is(err, e)
		}
		if err != nil && !ignored {
			return fmt.Errorf("netlink request %d: %w", i, err)
		}
	}
	return nil
}
