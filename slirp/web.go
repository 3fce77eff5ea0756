package slirp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"moss/record"
)

// Web is where the containers' web servers are reached by name:
// http://NAME.localhost:Port and https://NAME.localhost:TLSPort. A browser, and
// systemd's resolver, know that every name below localhost is this machine: RFC 6761 §6.3.
type Web struct {
	Port    uint16 // 0: off
	TLSPort uint16 `json:",omitempty"` // 0: off
}

func webPath(d Dirs) string { return filepath.Join(d.Networks, ".web.json") }

// LoadWeb reads what SaveWeb wrote; off, where it has not been called.
func LoadWeb(d Dirs) (w Web, err error) {
	text, err := os.ReadFile(webPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = record.Decode(text, &w)
	}
	if err != nil {
		return w, fmt.Errorf("cannot read where the web is: %w", err)
	}
	return w, nil
}

// SaveWeb turns the web on or off, for good. A moss-net that runs obeys at once; if it
// cannot, nothing has changed.
func SaveWeb(ctx context.Context, d Dirs, w Web) error {
	was, err := LoadWeb(d)
	if err != nil {
		was = Web{}
	}
	if err := os.MkdirAll(d.Networks, 0o700); err != nil {
		return err
	}
	if err := record.Write(webPath(d), w, false); err != nil {
		return err
	}
	lease, _, err := converse(ctx, d, Call{Op: OpWeb}, nil, false)
	if errors.Is(err, errGone) {
		return nil // the next one reads it
	}
	if err != nil {
		return errors.Join(err, record.Write(webPath(d), was, false))
	}
	return lease.Close()
}
