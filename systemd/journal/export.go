package journal

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// Entry is one entry of the journal: its fields by name. Of a field that is there
// more than once, the last value.
type Entry map[string][]byte

// maxField bounds a field of an entry.
const maxField = 64 << 20

// Read reads the next entry of the export format; io.EOF at the end.
func Read(r *bufio.Reader) (Entry, error) {
	entry := Entry{}
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && len(entry) > 0 && len(line) == 0 {
			return entry, nil // journalctl ends the last one so
		}
		if err != nil {
			return nil, err // a line that is cut off is none
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			if len(entry) > 0 {
				return entry, nil
			}
			continue
		}
		name, value, plain := bytes.Cut(line, []byte{'='})
		if !plain {
			if value, err = readBinary(r); err != nil {
				return nil, fmt.Errorf("cannot read field %q: %w", name, err)
			}
		}
		entry[string(name)] = value
	}
}

// readBinary reads the value of a field that is not plain text.
func readBinary(r *bufio.Reader) ([]byte, error) {
	var size uint64
	if err := binary.Read(r, binary.LittleEndian, &size); err != nil {
		return nil, err
	}
	if size > maxField {
		return nil, fmt.Errorf("it has %d bytes", size)
	}
	value := make([]byte, size+1)
	if _, err := io.ReadFull(r, value); err != nil {
		return nil, err
	}
	return value[:size], nil
}
