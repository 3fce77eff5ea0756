package rootless

import (
	"os"
	"strconv"
	"time"

	"moss/rootless/monitor"
)

// A service manager gives a service a minute and a half to start. What takes long
// without being stuck asks for more, a bit at a time; but not without end, or the
// timeout of the service would mean nothing.
const (
	extendEvery = 10 * time.Second
	extendBy    = 30 * time.Second
	extendFor   = time.Hour
)

// extendStart keeps the service manager of $NOTIFY_SOCKET, if there is one, from giving
// up on us until the function that it returns is called, and tells it what we do. See
// sd_notify(3), EXTEND_TIMEOUT_USEC.
func extendStart(what string) (done func()) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return func() {}
	}
	more := "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(extendBy.Microseconds(), 10) + "\n"
	monitor.SendNotify(socket, more+"STATUS="+what+"\n")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticks, end := time.NewTicker(extendEvery), time.NewTimer(extendFor)
		defer ticks.Stop()
		defer end.Stop()
		for {
			select {
			case <-ticks.C:
				monitor.SendNotify(socket, more)
			case <-end.C:
				return
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		monitor.SendNotify(socket, "STATUS=\n")
	}
}
