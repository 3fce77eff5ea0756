package rootless

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"

	"github.com/containerd/errdefs"
)

// newID makes a container ID: 32 random bytes in hexadecimal.
func newID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return hex.EncodeToString(b[:])
}

var nameFirst = strings.Fields(`amber bold brisk calm clear cosy damp dewy early fair fond fresh gentle glad
	golden green happy keen kind light lively lucid merry mild misty neat noble patient plain quick quiet rapid
	rustic serene sharp shy silent silver smooth soft spry steady still sunny swift tidy warm wild wise young`)

var nameSecond = strings.Fields(`alder ash aspen beech birch bracken bramble briar brook cedar clover cypress
	daisy elder elm fen fern fir forest glade grove hazel heather hedge hill holly ivy juniper larch laurel lichen
	linden maple marsh meadow mint moor mushroom nettle oak orchid pine poppy reed rowan rush sage sedge spruce
	stone stream thistle thyme violet willow yarrow yew`)

// randomName makes a name such as "quiet_fern".
func randomName() string {
	pick := func(list []string) string {
		n, _ := rand.Int(rand.Reader, big.NewInt(int64(len(list))))
		return list[n.Int64()]
	}
	return pick(nameFirst) + "_" + pick(nameSecond)
}

// CheckName says what is wrong with a container's name.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 255
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && strings.ContainsRune("_.-", r))
	}
	if !ok {
		return fmt.Errorf("invalid container name %q: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// reserveName takes name for id. A reservation whose container is gone (a crash
// between the two) is taken over.
func (e *Engine) reserveName(name, id string) error {
	path := e.Paths.Name(name)
	for range 3 {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_, err = f.WriteString(id)
			return errors.Join(err, f.Close())
		}
		if errors.Is(err, fs.ErrNotExist) {
			if err := os.MkdirAll(e.Paths.Names(), 0o700); err != nil {
				return err
			}
			continue
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		holder, err := os.ReadFile(path)
		if err != nil {
			continue // it has just gone
		}
		if _, err := os.Stat(e.Paths.Container(string(holder))); len(holder) == 64 && err == nil {
			return &NameInUseError{Name: name, ID: string(holder)}
		}
		if len(holder) != 64 && !olderThan(path, staleAge) {
			return &NameInUseError{Name: name, ID: "a container that is being created"}
		}
		os.Remove(path)
	}
	return fmt.Errorf("cannot reserve name %q: it keeps changing hands", name)
}

// NameInUseError says which container has the name.
type NameInUseError struct{ Name, ID string }

func (e *NameInUseError) Error() string {
	return fmt.Sprintf("the container name %q is already in use by %s: you have to remove that container to be able to reuse that name", e.Name, e.ID)
}

// Is makes the error an errdefs.ErrAlreadyExists.
func (e *NameInUseError) Is(target error) bool { return target == errdefs.ErrAlreadyExists }

// Hint says how to go on.
func (e *NameInUseError) Hint() string {
	return "give another --name, or add --replace to remove the old container first"
}
