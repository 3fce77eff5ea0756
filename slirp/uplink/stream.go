package uplink

import (
	"bytes"
	"io"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/waiter"
)

// stream is a TCP connection of the stack that io.Copy moves in large pieces.
type stream struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
	once     sync.Once
	closed   chan struct{}
}

func newStream(c *gonet.TCPConn, e tcpip.Endpoint, q *waiter.Queue) *stream {
	return &stream{TCPConn: c, endpoint: e, queue: q, closed: make(chan struct{})}
}

// Close ends both directions.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closed)
		err = s.TCPConn.Close()
	})
	return err
}

// SetLinger with 0 makes Close a reset, as with net.TCPConn.
func (s *stream) SetLinger(seconds int) error {
	s.endpoint.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: seconds >= 0})
	return nil
}

// WriteTo copies everything that arrives to w. The stack holds the connection's
// lock while it is read from, so nothing that may block happens in there.
func (s *stream) WriteTo(w io.Writer) (total int64, err error) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	s.queue.EventRegister(&entry)
	defer s.queue.EventUnregister(&entry)
	buffer := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buffer)
	for {
		into := tcpip.SliceWriter(buffer[:])
		result, failure := s.endpoint.Read(&into, tcpip.ReadOptions{})
		if result.Count > 0 {
			n, err := w.Write(buffer[:result.Count])
			total += int64(n)
			if err != nil {
				return total, err
			}
		}
		switch failure.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			select {
			case <-readable:
			case <-s.closed:
				return total, io.ErrClosedPipe
			}
		case *tcpip.ErrClosedForReceive:
			return total, nil
		default:
			return total, failureOf(failure)
		}
	}
}

// chunk is how much is copied at a time.
const chunk = 128 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// ReadFrom sends everything that r has.
func (s *stream) ReadFrom(r io.Reader) (total int64, err error) {
	entry, writable := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	s.queue.EventRegister(&entry)
	defer s.queue.EventUnregister(&entry)
	buffer := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buffer)
	for {
		n, err := r.Read(buffer[:])
		for rest := bytes.NewReader(buffer[:n]); rest.Len() > 0; {
			sent, failure := s.endpoint.Write(rest, tcpip.WriteOptions{})
			total += sent
			if _, full := failure.(*tcpip.ErrWouldBlock); full {
				select {
				case <-writable:
				case <-s.closed:
					return total, io.ErrClosedPipe
				}
			} else if failure != nil {
				return total, failureOf(failure)
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// stackError is an error of the stack.
type stackError string

func (e stackError) Error() string { return string(e) }

func failureOf(e tcpip.Error) error { return stackError(e.String()) }
