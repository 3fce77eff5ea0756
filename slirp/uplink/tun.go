package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// OpenTUN makes the interface name in the calling thread's network namespace,
// or takes over one that lost its process. It goes when the file is closed.
//
// Each packet has a virtio_net header, so that neither side computes checksums
// or cuts segments: they never leave this machine as they are. See the kernel's
// Documentation/networking/tuntap.rst.
func OpenTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open %q: %w", "/dev/net/tun", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make interface %q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

const (
	// virtioSize is the size of struct virtio_net_hdr, linux/virtio_net.h.
	virtioSize = 10

	needsChecksum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	segmentsTCPv4 = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	segmentsTCPv6 = 4 // VIRTIO_NET_HDR_GSO_TCPV6

	maxPacket = 65535
)

// tun is the link of the embedded stack: IP packets on a TUN interface.
type tun struct {
	file *os.File
	fd   int // of file, for the writers
	mtu  uint32
	// intercept sees every packet first; it says whether it has dealt with it.
	intercept func(packet []byte) bool

	mu         sync.RWMutex // held for reading by writers, to be stopped by close
	dispatcher stack.NetworkDispatcher
	closed     bool
	done       chan struct{}
	onClose    func()
}

var (
	_ stack.LinkEndpoint = (*tun)(nil)
	_ stack.GSOEndpoint  = (*tun)(nil)
)

func newTUN(file *os.File, mtu uint32, intercept func([]byte) bool) (*tun, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	t := &tun{file: file, mtu: mtu, intercept: intercept, done: make(chan struct{})}
	if err := raw.Control(func(fd uintptr) { t.fd = int(fd) }); err != nil {
		return nil, err
	}
	return t, nil
}

// read delivers packets until the interface or the file goes.
func (t *tun) read() {
	defer close(t.done)
	frame := make([]byte, virtioSize+maxPacket)
	for {
		n, err := t.file.Read(frame)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if n <= virtioSize {
			continue
		}
		packet := frame[virtioSize:n]
		if t.intercept(packet) {
			continue
		}
		t.deliver(packet)
	}
}

// deliver hands a packet to the stack.
func (t *tun) deliver(packet []byte) {
	var protocol tcpip.NetworkProtocolNumber
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		protocol = header.IPv4ProtocolNumber
	case header.IPv6Version:
		protocol = header.IPv6ProtocolNumber
	default:
		return
	}
	t.mu.RLock()
	dispatcher := t.dispatcher
	t.mu.RUnlock()
	if dispatcher == nil {
		return
	}
	buffer := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	dispatcher.DeliverNetworkPacket(protocol, buffer)
	buffer.DecRef()
}

// WritePackets is of stack.LinkWriter.
func (t *tun) WritePackets(packets stack.PacketBufferList) (int, tcpip.Error) {
	written := 0
	for _, packet := range packets.AsSlice() {
		if err := t.write(virtioHeader(packet), packet.AsSlices()...); err != nil {
			return written, tcpip.TranslateErrno(err.(unix.Errno))
		}
		written++
	}
	return written, nil
}

// virtioHeader tells the kernel what the stack has left to do.
func virtioHeader(packet *stack.PacketBuffer) (h [virtioSize]byte) {
	gso := packet.GSOOptions
	if gso.Type == stack.GSONone {
		return h
	}
	if gso.NeedsCsum {
		h[0] = needsChecksum
		binary.NativeEndian.PutUint16(h[6:], gso.L3HdrLen)
		binary.NativeEndian.PutUint16(h[8:], gso.CsumOffset)
	}
	if packet.Data().Size() > int(gso.MSS) {
		h[1] = segmentsTCPv4
		if gso.Type == stack.GSOTCPv6 {
			h[1] = segmentsTCPv6
		}
		binary.NativeEndian.PutUint16(h[2:], uint16(packet.HeaderSize()))
		binary.NativeEndian.PutUint16(h[4:], gso.MSS)
	}
	return h
}

// write sends one packet, in pieces, after its virtio_net header.
func (t *tun) write(head [virtioSize]byte, pieces ...[]byte) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.closed {
		return unix.EBADF
	}
	frame := make([][]byte, 0, 8)
	frame = append(append(frame, head[:]), pieces...)
	for {
		_, err := unix.Writev(t.fd, frame)
		if err != unix.EINTR {
			return err
		}
	}
}

// Close is of stack.LinkEndpoint: it ends the reader and removes the interface.
func (t *tun) Close() {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.mu.Unlock()
	if closed {
		return
	}
	t.file.Close()
	if t.onClose != nil {
		t.onClose()
	}
}

// Attach is of stack.LinkEndpoint.
func (t *tun) Attach(d stack.NetworkDispatcher) {
	t.mu.Lock()
	first := t.dispatcher == nil && d != nil
	t.dispatcher = d
	t.mu.Unlock()
	if first {
		go t.read() // ends with Close
	}
}

// IsAttached is of stack.LinkEndpoint.
func (t *tun) IsAttached() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.dispatcher != nil
}

// Wait is of stack.LinkEndpoint: it waits for the reader's end.
func (t *tun) Wait() { <-t.done }

// MTU is of stack.LinkEndpoint.
func (t *tun) MTU() uint32 { return t.mtu }

// SetMTU is of stack.LinkEndpoint; the interface's is fixed.
func (t *tun) SetMTU(uint32) {}

// MaxHeaderLength is of stack.LinkEndpoint: there is no header.
func (t *tun) MaxHeaderLength() uint16 { return 0 }

// LinkAddress is of stack.LinkEndpoint: there is none.
func (t *tun) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress is of stack.LinkEndpoint.
func (t *tun) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities is of stack.LinkEndpoint: packets come from this machine's
// kernel, their checksums are right or not computed yet.
func (t *tun) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// ARPHardwareType is of stack.LinkEndpoint.
func (t *tun) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader is of stack.LinkEndpoint.
func (t *tun) AddHeader(*stack.PacketBuffer) {}

// ParseHeader is of stack.LinkEndpoint.
func (t *tun) ParseHeader(*stack.PacketBuffer) bool { return true }

// SetOnCloseAction is of stack.LinkEndpoint.
func (t *tun) SetOnCloseAction(f func()) { t.onClose = f }

// GSOMaxSize is of stack.GSOEndpoint.
func (t *tun) GSOMaxSize() uint32 { return maxPacket - header.IPv6MinimumSize }

// SupportedGSO is of stack.GSOEndpoint.
func (t *tun) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }
