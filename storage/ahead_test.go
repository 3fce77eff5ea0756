package storage

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

// Read ahead or not, a stream is the same, however it comes and is read, and so is its error.
func TestAhead(t *testing.T) {
	want := make([]byte, 3*aheadSize+4321)
	rand.Read(want)
	broken := errors.New("broken")
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"at once":      func(r io.Reader) io.Reader { return r },
		"byte by byte": func(r io.Reader) io.Reader { return io.MultiReader(iotest.OneByteReader(io.LimitReader(r, 9999)), r) },
		"with its end": iotest.DataErrReader,
		"broken":       func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(broken)) },
	} {
		a := newAhead(wrap(bytes.NewReader(want)))
		got, err := io.ReadAll(iotest.HalfReader(a))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
		if name == "broken" != errors.Is(err, broken) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// Whoever stops reading does not leave it waiting.
func TestAheadClose(t *testing.T) {
	r, w := io.Pipe()
	a := newAhead(r)
	over := make(chan error, 1)
	go func() {
		_, err := w.Write(make([]byte, 4*aheadSize))
		over <- err
	}()
	if _, err := io.ReadFull(a, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	a.Close()
	r.Close()
	select {
	case <-over:
	case <-time.After(10 * time.Second):
		t.Error("the writer still waits")
	}
}
