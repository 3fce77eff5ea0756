// Command moss-net is the per-user network program: uplink, names and published ports.
// moss-monitor starts it when a container needs it; it ends by itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/hub"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: moss-net RUN-DIRECTORY NETWORKS-DIRECTORY; moss starts it")
		os.Exit(2)
	}
	// It stays for as long as a container runs, and makes little garbage.
	debug.SetGCPercent(25)
	ready := os.NewFile(3, "ready")
	err := run(slirp.Dirs{Run: os.Args[1], Networks: os.Args[2]}, ready)
	if err != nil {
		log.Print(err)
		fmt.Fprint(ready, err)
		os.Exit(1)
	}
}

// idle is how long to stay without a lease; MOSS_NET_IDLE, a duration as "5s",
// is for tests and for the impatient.
func idle() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("MOSS_NET_IDLE")); err == nil && d > 0 {
		return d
	}
	return hub.DefaultIdle
}

// settle moves the process into its own cgroup. From among monitors it need not be fast: nobody
// ends those together.
func settle(cgroup string) *sync.WaitGroup {
	var moved sync.WaitGroup
	if cgroup == "" {
		return &moved
	}
	moved.Go(func() {
		err := os.Mkdir(cgroup, 0o755)
		if err == nil || errors.Is(err, fs.ErrExist) {
			err = os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte("0"), 0)
		}
		if err != nil {
			log.Printf("cannot move into cgroup %q: %v", cgroup, err)
		}
	})
	if own, err := os.ReadFile("/proc/self/cgroup"); err != nil || !strings.HasSuffix(strings.TrimSpace(string(own)), "/monitors") {
		moved.Wait() // before it has children
	}
	return &moved
}

// run serves until nobody needs it. The starter, who holds the lock, reads "ok"
// or an error from ready.
func run(d slirp.Dirs, ready *os.File) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT)
	defer stop()
	drain := make(chan os.Signal, 1) // heard of as soon as there is something to drain
	signal.Notify(drain, unix.SIGTERM)
	moved := settle(os.Getenv(slirp.CgroupVariable))
	defer moved.Wait()
	h, err := hub.Open(d, log.Default())
	if err != nil {
		return err
	}
	s, err := hub.Listen(h, idle())
	if err != nil {
		h.Close()
		return err
	}
	if err := os.WriteFile(d.PIDFile(), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return err
	}
	if _, err := ready.WriteString("ok\n"); err != nil {
		log.Printf("the starter has gone: %v", err) // the next one finds this process
	}
	ready.Close()
	go func() { // ends with the process
		for range drain {
			s.Drain()
		}
	}()
	return s.Serve(ctx)
}
