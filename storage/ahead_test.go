package storage

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
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
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine stays
		a := newAhead(rand.Reader)
		if _, err := io.ReadFull(a, make([]byte, 512)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the buffer is full
		a.Close()
	})
}
