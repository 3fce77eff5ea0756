package image

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
)

// ErrHelper says that a change is for moss-image: the image is another store's, the
// store changes just now, or its list is not as this program knows it.
var ErrHelper = errors.New("this change is for moss-image")

// Rename gives an image names, which others lose, and takes some away: in the
// store's own list, by the rules of containers/storage (its images.lock, its order
// of names and its history of them), and in the index. Opening the store for that
// would take ten times as long. The error is ErrHelper where it has to be.
func (im *Images) Rename(id string, add, remove []string) error {
	unlock, err := im.lock()
	if err != nil {
		return fmt.Errorf("cannot name image %q: %w", id, err)
	}
	defer unlock()
	idx, err := im.load()
	if err != nil {
		return err
	}
	if e := idx.byID(id); e == nil || !im.Fresh() {
		return ErrHelper
	}
	if i, err := im.readOnce(id); err != nil || i.ReadOnly {
		return ErrHelper
	}
	changed, err := renameInStore(idx.Stores[0], id, add, remove)
	if err != nil {
		if errors.Is(err, ErrHelper) {
			return err
		}
		return fmt.Errorf("cannot name image %q: %w", id, err)
	}
	if len(changed) == 0 {
		return nil
	}
	return im.renamed(idx, changed)
}

// listed is what of an image in the store's list names are about.
type listed struct {
	ID           string
	Names        []string
	NamesHistory []string `json:"names-history"`
}

// renameInStore changes the list of the store and returns the images that have
// other names now.
func renameInStore(state StoreState, id string, add, remove []string) ([]listed, error) {
	unlock, err := lockStore(filepath.Join(filepath.Dir(state.Path), "images.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock.Close()
	if StatStore(state.Path) != state { // changed before we had the lock
		return nil, ErrHelper
	}
	data, err := record.ReadFile(state.Path)
	if err != nil {
		return nil, err
	}
	objects, ok := elements(data)
	if !ok {
		return nil, ErrHelper
	}
	var changed []listed
	words := [][]byte{[]byte(strconv.Quote(id))}
	for _, name := range add {
		words = append(words, []byte(strconv.Quote(name)))
	}
	for n, object := range objects {
		if !slices.ContainsFunc(words, func(word []byte) bool { return bytes.Contains(object, word) }) {
			continue
		}
		var img listed
		if err := json.Unmarshal(object, &img); err != nil {
			return nil, ErrHelper
		}
		if !img.rename(img.ID == id, add, remove) {
			continue
		}
		if objects[n], err = img.into(object); err != nil {
			return nil, ErrHelper
		}
		changed = append(changed, img)
	}
	if len(changed) == 0 {
		return nil, nil
	}
	out := append([]byte{'['}, bytes.Join(objects, []byte{','})...)
	// First, as the library does: who is killed between has others read once more.
	if _, err := unix.Pwrite(int(unlock.Fd()), lastWrite(), 0); err != nil {
		return nil, err
	}
	return changed, replaceStore(state.Path, append(out, ']'))
}

// rename changes the names of an image: of the one that is meant, or of another
// that has a name which that one gets.
func (l *listed) rename(meant bool, add, remove []string) bool {
	before := l.Names
	l.Names = slices.DeleteFunc(slices.Clone(l.Names), func(name string) bool {
		return slices.Contains(add, name) || meant && slices.Contains(remove, name)
	})
	if !meant {
		return len(l.Names) != len(before)
	}
	l.Names = unique(append(slices.Clone(add), l.Names...))
	for _, name := range add {
		l.NamesHistory = unique(append([]string{name}, l.NamesHistory...))
	}
	return !slices.Equal(l.Names, before)
}

func unique(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// into puts the names into the image's object; all else stays.
func (l *listed) into(object []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, err
	}
	for key, names := range map[string][]string{"names": l.Names, "names-history": l.NamesHistory} {
		if len(names) == 0 {
			delete(fields, key)
			continue
		}
		value, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		fields[key] = value
	}
	return json.Marshal(fields)
}

// elements cuts a JSON list of objects into these, without looking into them.
func elements(data []byte) (objects [][]byte, ok bool) {
	data = bytes.TrimSpace(data)
	if len(data) < 2 || data[0] != '[' || data[len(data)-1] != ']' {
		return nil, false
	}
	depth, begin := 0, 0
	for n := 1; n < len(data)-1; n++ {
		switch c := data[n]; {
		case c == '"':
			if n = endOfString(data, n); n < 0 {
				return nil, false
			}
		case c == '{' || c == '[':
			if depth == 0 {
				begin = n
			}
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				objects = append(objects, data[begin:n+1])
			}
		case depth == 0 && c != ',' && c > ' ':
			return nil, false
		}
	}
	return objects, depth == 0
}

// endOfString is where the string that begins at n ends; -1 if it does not.
func endOfString(data []byte, n int) int {
	for {
		next := bytes.IndexByte(data[n+1:], '"')
		if next < 0 {
			return -1
		}
		n += 1 + next
		escapes := 0
		for data[n-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return n
		}
	}
}

// replaceStore writes the store's list. The lock is held, so the name beside it is
// ours. After a power cut there is the old list or the new one: where the file system
// does not see to that by itself, the disk is waited for.
func replaceStore(path string, data []byte) error {
	next := filepath.Join(filepath.Dir(path), ".moss-images.json")
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && !ordersRenames(f) {
		err = unix.Fdatasync(int(f.Fd()))
	}
	if err = errors.Join(err, f.Close()); err == nil {
		return os.Rename(next, path)
	}
	return errors.Join(err, os.Remove(next))
}

// ordersRenames says whether the file system writes a new file before it lets it take
// the place of another: ext4 does unless it is mounted otherwise (auto_da_alloc in the
// kernel's ext4.rst), btrfs does, and what lies in memory has nothing to order.
func ordersRenames(f *os.File) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &fs) != nil {
		return false
	}
	switch fs.Type {
	case unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		return true
	case unix.EXT4_SUPER_MAGIC: // of ext2 and ext3 too
	default:
		return false
	}
	var st unix.Stat_t
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	device := fmt.Sprintf(" %d:%d ", unix.Major(st.Dev), unix.Minor(st.Dev))
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		if !ok || !strings.Contains(before, device) {
			continue
		}
		return strings.HasPrefix(after, "ext4 ") && !strings.Contains(after, "noauto_da_alloc") && !strings.Contains(after, "data=writeback")
	}
	return false
}

// lockStore locks a file of containers/storage for writing. Its locks are of
// processes, this one of a descriptor; they know of each other, see fcntl(2).
func lockStore(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, ErrHelper
	}
	all := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLKW, &all)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lastWrite is what a writer leaves in the lock file, so that others read the list
// again: any 64 bytes that were never there before.
func lastWrite() []byte {
	b := make([]byte, 64)
	binary.LittleEndian.PutUint64(b, uint64(time.Now().UnixNano()))
	binary.LittleEndian.PutUint32(b[16:], uint32(os.Getpid()))
	rand.Read(b[20:]) // it does not fail
	return b
}

// renamed writes the records and the index of images that have other names. The
// lock is held.
func (im *Images) renamed(idx *Index, changed []listed) error {
	for _, l := range changed {
		e := idx.byID(l.ID)
		if e == nil {
			continue // left out of the index, for it is broken
		}
		i, err := im.readOnce(l.ID)
		if err != nil {
			return err
		}
		i.Names, i.NamesHistory = l.Names, l.NamesHistory
		data, err := record.Encode(i)
		if err == nil {
			err = im.swap(l.ID+".json", append(data, '\n'))
		}
		if err != nil {
			return err
		}
		// No stamp that moss-image makes: it writes the record again when it next writes the index.
		e.Names, e.Stamp = l.Names, "renamed"
	}
	idx.Stores[0] = StatStore(idx.Stores[0].Path)
	return im.write(idx)
}

// write replaces the index.
func (im *Images) write(idx *Index) error {
	if err := im.swap("index", idx.encode()); err != nil {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	im.index = nil
	return nil
}

// swap replaces a file of the index in one step. These are copies, made anew when they
// are damaged; so no file system is to write them at once, as some do where one file
// is renamed over another (auto_da_alloc of ext4). The lock is held.
func (im *Images) swap(name string, data []byte) error {
	path, next := filepath.Join(im.dir, name), filepath.Join(im.dir, ".next")
	if err := os.WriteFile(next, data, 0o644); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE) == nil {
		return os.Remove(next)
	}
	return os.Rename(next, path) // there was none, or the file system cannot
}

// lock takes the lock of whoever writes the index.
func (im *Images) lock() (unlock func(), err error) {
	return record.Lock(filepath.Join(im.dir, "lock"))
}

// Doomed is the directory of images that are removed: a file by the name of each
// ID. They are in no index, and moss-image deletes them before it does anything else.
func Doomed(root string) string { return filepath.Join(root, "images", "doomed") }

// DoomedIDs lists the images that are being removed.
func DoomedIDs(root string) []string {
	d, err := os.Open(Doomed(root))
	if err != nil {
		return nil // there have never been any
	}
	defer d.Close()
	ids, _ := d.Readdirnames(-1)
	return ids
}

// Unfinished says whether somebody adds to the store just now, or was killed at it:
// moss-image then puts things right.
func Unfinished(root string) bool {
	d, err := os.Open(filepath.Join(root, "pending"))
	if err != nil {
		return false
	}
	defer d.Close()
	names, _ := d.Readdirnames(2) // one is the lock
	return slices.ContainsFunc(names, func(name string) bool { return name[0] != '.' })
}

// Remove takes images out of the index, for good: what they hold in the store
// moss-image deletes when it is asked next (Request.Sweep, or anything else).
func (im *Images) Remove(ids []string) error {
	err := im.takeOut(ids)
	if isFull(err) {
		DropBallast(im.root)
		err = im.takeOut(ids)
	}
	return err
}

func (im *Images) takeOut(ids []string) error {
	unlock, err := im.lock()
	if err != nil {
		return fmt.Errorf("cannot remove images: %w", err)
	}
	defer unlock()
	idx, err := im.load()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := im.doom(id); err != nil {
			return fmt.Errorf("cannot remove image %q: %w", id, err)
		}
	}
	idx.Images = slices.DeleteFunc(idx.Images, func(e Entry) bool { return slices.Contains(ids, e.ID) })
	if err := im.write(idx); err != nil {
		// On a full disk, too, where images are removed to make room: it is made anew.
		if rerr := os.Remove(filepath.Join(im.dir, "index")); rerr != nil {
			return errors.Join(err, rerr)
		}
	}
	return nil
}

// doom marks an image with its own record, which needs no room on a full disk.
func (im *Images) doom(id string) error {
	mark := filepath.Join(Doomed(im.root), id)
	err := os.Rename(im.path(id), mark)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// There was no record, or no directory yet.
	if err := os.Mkdir(Doomed(im.root), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err = os.Rename(im.path(id), mark); errors.Is(err, fs.ErrNotExist) {
		err = os.WriteFile(mark, nil, 0o600)
	}
	return err
}
