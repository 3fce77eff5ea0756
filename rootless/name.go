package rootless

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// newID makes a container ID: 32 random bytes in hexadecimal.
func newID() string {
	var b [32]byte
	if n, err := unix.Getrandom(b[:], 0); n != len(b) || err != nil {
		rand.Read(b[:]) // which takes longer, and never fails
	}
	return hex.EncodeToString(b[:])
}

const nameFirst = `amber bold brisk calm clear cosy damp dewy early fair fond fresh gentle glad
	golden green happy keen kind light lively lucid merry mild misty neat noble patient plain quick quiet rapid
	rustic serene sharp shy silent silver smooth soft spry steady still sunny swift tidy warm wild wise young`

const nameSecond = `alder ash aspen beech birch bracken bramble briar brook cedar clover cypress
	daisy elder elm fen fern fir forest glade grove hazel heather hedge hill holly ivy juniper larch laurel lichen
	linden maple marsh meadow mint moor mushroom nettle oak orchid pine poppy reed rowan rush sage sedge spruce
	stone stream thistle thyme violet willow yarrow yew`

// randomName makes a name such as "quiet_fern".
func randomName() string {
	pick := func(words string) string {
		list := strings.Fields(words)
		return list[mathrand.IntN(len(list))]
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

// reserveName takes name for id. Until the record is whole the caller keeps the
// file open: its lock says that somebody is at work. A reservation without
// record and lock is that of a create that was killed, and is taken over.
func (e *Engine) reserveName(name, id string) (*os.File, error) {
	if err := os.MkdirAll(e.Paths.Names(), 0o700); err != nil {
		return nil, err
	}
	own := e.Paths.Name("." + id) // no container's name begins with a dot
	f, err := os.OpenFile(own, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(own)
	_, err = f.WriteString(id)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	for tries := 0; err == nil && tries < 5; tries++ {
		if err = os.Link(own, e.Paths.Name(name)); err == nil {
			return f, nil
		}
		if errors.Is(err, fs.ErrExist) {
			err = e.takeOver(name)
		}
	}
	f.Close()
	if err == nil {
		err = fmt.Errorf("cannot reserve name %q: it keeps changing hands", name)
	}
	return nil, err
}

// takeOver frees a name that nobody has any more; a NameInUseError if somebody has.
func (e *Engine) takeOver(name string) error {
	f, err := os.Open(e.Paths.Name(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	id := string(text)
	if len(id) != 64 { // damaged
		if c := e.named(name); c != nil {
			return &NameInUseError{Name: name, ID: c.Spec.ID}
		}
		return os.Remove(e.Paths.Name(name))
	}
	if lexists(e.Paths.Container(id)) && !e.halfMade(id) {
		return &NameInUseError{Name: name, ID: id}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return &NameInUseError{Name: name, ID: id}
	}
	return e.RemoveBroken(id)
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
