package gate

import (
	"errors"
	"io/fs"
	"log"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"moss/record"
	"moss/slirp"
)

// Record is what a container was refused: a file, written soon after each refusal.
type Record struct {
	path string
	log  *log.Logger

	mu    sync.Mutex
	known map[refusalKey]*slirp.Refusal
	timer *time.Timer // a write is to come
	wrote time.Time
}

type refusalKey struct {
	proto string
	addr  netip.Addr
	port  uint16
	name  string // of a question
}

const (
	maxRefusals = 1000
	// pace is how often the file is written at most.
	pace = 200 * time.Millisecond
)

// openRecord reads what a former moss-net has written, if it has.
func openRecord(path string, logger *log.Logger) *Record {
	r := &Record{path: path, log: logger, known: map[refusalKey]*slirp.Refusal{}}
	if path == "" {
		return r
	}
	text, err := os.ReadFile(path)
	var list []slirp.Refusal
	if err == nil {
		err = record.Decode(text, &list)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Print(err)
	}
	for _, f := range list {
		r.known[keyOf(f)] = &f
	}
	return r
}

func keyOf(f slirp.Refusal) refusalKey {
	k := refusalKey{proto: f.Protocol, addr: f.Address, port: f.Port}
	if f.Protocol == "dns" {
		k.name = f.Name
	}
	return k
}

// Add records a refusal of now.
func (r *Record) Add(f slirp.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	f.First, f.Last, f.Count = now, now, 1
	key := keyOf(f)
	if was := r.known[key]; was != nil {
		f.First, f.Count = was.First, was.Count+1
		if f.Name == "" {
			f.Name = was.Name
		}
	}
	r.known[key] = &f
	if len(r.known) > maxRefusals {
		oldest := key
		for k, f := range r.known {
			if f.Last.Before(r.known[oldest].Last) {
				oldest = k
			}
		}
		delete(r.known, oldest)
	}
	if r.timer == nil && r.path != "" {
		r.timer = time.AfterFunc(max(0, pace-time.Since(r.wrote)), r.Flush)
	}
}

// Flush writes what is not written yet.
func (r *Record) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil {
		return
	}
	r.timer.Stop()
	r.timer, r.wrote = nil, time.Now()
	list := make([]slirp.Refusal, 0, len(r.known))
	for _, f := range r.known {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b slirp.Refusal) int { return a.First.Compare(b.First) })
	text, err := record.Encode(list)
	if err == nil {
		err = record.Replace(r.path, text, 0o600, false)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the container may have gone
		r.log.Print(err)
	}
}
