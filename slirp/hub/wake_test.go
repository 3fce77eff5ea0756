package hub

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"moss/slirp"
)

// A client that was refused while another one was accepted is tried again: the program
// has begun to listen in between.
func TestDoorRefusedBeside(t *testing.T) {
	g := newDoor()
	g.begin(slirp.Wake{Ports: []uint16{80}}, func(byte) {})
	g.hear(slirp.WakeRunning)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	accept := func() (net.Conn, error) { return nil, nil }
	tries := 0
	_, leave, err := g.Lead(ctx, 80, func() (net.Conn, error) {
		if tries++; tries > 1 {
			return accept()
		}
		if _, _, err := g.Lead(ctx, 80, accept); err != nil {
			t.Error(err)
		}
		return nil, syscall.ECONNREFUSED
	})
	if err != nil || tries != 2 {
		t.Fatalf("%d tries: %v", tries, err)
	}
	leave()
	// Whoever is refused by a program that has listened already is not.
	tries = 0
	if _, _, err := g.Lead(ctx, 80, func() (net.Conn, error) { tries++; return nil, syscall.ECONNREFUSED }); err == nil || tries != 1 {
		t.Fatalf("%d tries: %v", tries, err)
	}
}
