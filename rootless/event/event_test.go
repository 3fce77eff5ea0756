package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is written is read as the same, by those who ask for that time.
func TestWriteRead(t *testing.T) {
	l := At(t.TempDir())
	code := 3
	want := Event{
		Type: Container, Status: Died, ID: strings.Repeat("ab", 32), Name: "c", Image: "i\"mage", Pod: "p", ExitCode: &code,
		Health: "healthy", Error: "e\n", Attributes: map[string]string{"b": "2", "a": "é"},
	}
	if err := l.Read(t.Context(), Options{}, nil); err != nil {
		t.Errorf("no log yet: %v", err)
	}
	l.Write(&want, &Event{Type: Volume, Status: Create, Name: "v", Time: time.Now().Add(-time.Hour)})
	var got []string
	read := func(e *Event) error {
		got = append(got, e.Short())
		return nil
	}
	if err := l.Read(t.Context(), Options{}, read); err != nil || len(got) != 2 {
		t.Fatalf("%v %q", err, got)
	}
	if _, line, _ := strings.Cut(got[0], " container "); line != `died abababababab (image=i"mage, name=c, pod_id=p, exit_code=3, health_status=healthy, a=é, b=2)` {
		t.Errorf("%s", got[0])
	}
	got = nil
	if err := l.Read(t.Context(), Options{Until: time.Now().Add(-time.Minute)}, read); err != nil || len(got) != 1 || !strings.HasSuffix(got[0], "volume create v") {
		t.Errorf("%v %q", err, got)
	}
	Log("").Write(&want) // nobody wants them
}

// A line that was cut short spoils neither the one before nor the one after.
func TestTornLine(t *testing.T) {
	l := At(t.TempDir())
	l.Write(&Event{Type: Image, Status: Pull, ID: "1"})
	f, err := os.OpenFile(filepath.Join(string(l), current), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\n{\"Time\":\"2026-01-01T00:00:00Z\",\"Ty\x00\x00")
	f.Close()
	l.Write(&Event{Type: Image, Status: Push, ID: "2"})
	var got string
	l.Read(t.Context(), Options{}, func(e *Event) error {
		got += e.Status + e.ID
		return nil
	})
	if got != "pull1push2" {
		t.Errorf("%q", got)
	}
}

// A follower sees each event once and in order, also over rotations, and what was
// written by somebody who had the renamed file open.
func TestFollow(t *testing.T) {
	l := At(t.TempDir())
	l.Write(&Event{Type: System, Status: "old"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const writers, each = 4, 200
	ready, seen := make(chan struct{}), map[string]int{}
	done := errors.New("done")
	result := make(chan error, 1)
	total := 0
	go func() {
		result <- l.Read(ctx, Options{Follow: true, OnlyNew: true}, func(e *Event) error {
			if e.Status == "ready" {
				if total == 0 {
					close(ready)
					total = 1
				}
				return nil
			}
			seen[e.Status]++
			if len(seen) == writers*each {
				return done
			}
			return nil
		})
	}()
	for started := false; !started; { // until the follower looks
		l.Write(&Event{Type: System, Status: "ready"})
		select {
		case <-ready:
			started = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for n := range each {
				l.Write(&Event{Type: System, Status: fmt.Sprintf("%d/%d", w, n)})
				if w == 0 && n == each/2 {
					os.Rename(filepath.Join(string(l), current), filepath.Join(string(l), rotated))
				}
			}
		})
	}
	wait.Wait()
	if err := <-result; err != done {
		t.Fatalf("%v after %d", err, len(seen))
	}
	if seen["old"] > 0 {
		t.Error("an event from before was handed on")
	}
	for status, n := range seen {
		if n != 1 {
			t.Errorf("%s was seen %d times", status, n)
		}
	}
}

// A log that is full makes way; one old log is kept, and the follower ends in time.
func TestRotate(t *testing.T) {
	l := At(t.TempDir())
	l.Write(&Event{Type: System, Status: "first"})
	for range 3 {
		if err := os.Truncate(filepath.Join(string(l), current), maxSize); err != nil {
			t.Fatal(err)
		}
		l.Write(&Event{Type: System, Status: "large"}) // fills it
		l.Write(&Event{Type: System, Status: "next"})
	}
	names, _ := filepath.Glob(filepath.Join(string(l), "*"))
	if len(names) != 2 {
		t.Errorf("%q", names)
	}
	n := 0
	until := time.Now().Add(50 * time.Millisecond)
	err := l.Read(t.Context(), Options{Follow: true, Until: until}, func(e *Event) error { n++; return nil })
	if err != nil || n != 3 || time.Now().Before(until) {
		t.Errorf("%v, %d events", err, n)
	}
}

func BenchmarkWrite(b *testing.B) {
	l := At(b.TempDir())
	e := &Event{Type: Container, Status: Start, ID: strings.Repeat("a", 64), Name: "name", Image: "docker.io/library/debian:latest", Attributes: map[string]string{"a": "b"}}
	for b.Loop() {
		l.Write(e)
	}
}
