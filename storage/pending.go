package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
	"golang.org/x/sys/unix"

	"moss/record"
)

// pending is the file <root>/pending/<random>: what a process that changes the
// store has in hand, a line each, and locked for as long as it lives. A layer is
// in the store before the image that needs it, and an image's record before its
// documents: so one who is killed leaves what nobody knows of, but for this file.
// The next who opens the store finds it unlocked and puts things right; see recover.
type pending struct {
	mu   sync.Mutex
	dir  string
	keep bool
	path string
	file *os.File
	held map[string]bool
}

// The lines of the file. A name follows "new" when the image is to have one.
const (
	lineKeep  = "keep"   // what was downloaded serves the next try
	lineLayer = "layer " // an ID
	lineNew   = "new "   // the ID of an image that was not there
	lineOld   = "old "   // the ID of an image that goes
	lineNames = "names " // the ID of an image that gets or loses names
)

const (
	// keepUnfinished is how long what a pull has unpacked waits for the next try.
	keepUnfinished = 7 * 24 * time.Hour
	pendingLock    = ".lock"
)

// Begin says that layers and images will be added. With keep, the layers of an
// image that does not come whole are kept for the next try, for a week; else they
// go at once. Finish ends it.
func (s *Store) Begin(keep bool) {
	s.keepBallast()
	s.pending = &pending{dir: s.pendingDir(), keep: keep, held: map[string]bool{}}
}

// Finish puts right what Begin began: of what failed, nothing stays that nobody knows.
func (s *Store) Finish(failed bool) error {
	p := s.pending
	s.pending = nil
	if p == nil || p.file == nil {
		return nil
	}
	defer p.file.Close()
	if failed && p.keep {
		return nil
	}
	if failed {
		unlock, err := record.Lock(filepath.Join(p.dir, pendingLock))
		if err != nil {
			return err
		}
		defer unlock()
		if err := s.dropUnfinished([]*unfinished{{path: p.path, held: p.held}}); err != nil {
			return fmt.Errorf("cannot remove what was unpacked: %w", err)
		}
	}
	return os.Remove(p.path)
}

func (s *Store) pendingDir() string { return filepath.Join(s.Root, "pending") }

// hold notes a line before what it is about is done.
func (p *pending) hold(line string) error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[line] {
		return nil
	}
	if err := p.write(line); err != nil {
		return fmt.Errorf("cannot note what is done: %w", err)
	}
	p.held[line] = true
	return nil
}

// write adds a line to the file, which it makes. While somebody removes what nobody
// holds, nobody may begin to hold it, and no file is seen before it is locked.
func (p *pending) write(line string) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	gate, err := os.OpenFile(filepath.Join(p.dir, pendingLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer gate.Close()
	if err := unix.Flock(int(gate.Fd()), unix.LOCK_SH); err != nil {
		return err
	}
	if p.file == nil {
		if p.file, err = os.CreateTemp(p.dir, "*"); err != nil {
			return err
		}
		p.path = p.file.Name()
		if err := unix.Flock(int(p.file.Fd()), unix.LOCK_EX); err != nil {
			return err
		}
		if p.keep {
			line = lineKeep + "\n" + line
		}
	}
	_, err = p.file.WriteString(line + "\n")
	if err == nil && strings.HasPrefix(line, lineNew) {
		// The library waits for the disk with the record of an image; so must this.
		err = p.file.Sync()
	}
	return err
}

// unfinished is the file of somebody who was killed, or who kept it.
type unfinished struct {
	path string
	file *os.File
	keep bool
	held map[string]bool
}

func (u *unfinished) read(f *os.File) {
	u.held = map[string]bool{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if lines.Text() == lineKeep {
			u.keep = true
		} else {
			u.held[lines.Text()] = true
		}
	}
}

// each calls do for what follows the kind in each line of that kind.
func (u *unfinished) each(kind string, do func(string)) {
	for line := range u.held {
		if rest, ok := strings.CutPrefix(line, kind); ok {
			do(rest)
		}
	}
}

// pendings reads what there is: of those that live, and of those that do not.
func pendings(dir string) (live, dead []*unfinished, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil || entry.Name() == pendingLock {
			f.Close()
			continue
		}
		u := &unfinished{path: path, file: f}
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err != nil:
			u.read(f)
			f.Close()
			live = append(live, u)
		default:
			u.read(f)
			dead = append(dead, u)
		}
	}
	return live, dead, nil
}

// recover removes what those left who were killed: images without their documents
// or their names, and layers of no image. What a pull unpacked stays for a week,
// unless all is wanted.
func (s *Store) recover(all bool) error {
	if entries, err := os.ReadDir(s.pendingDir()); err != nil || len(entries) == 0 || len(entries) == 1 && entries[0].Name() == pendingLock {
		return nil
	}
	gate, err := os.OpenFile(filepath.Join(s.pendingDir(), pendingLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer gate.Close()
	if err := unix.Flock(int(gate.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // somebody is at it, or begins something
	}
	_, dead, err := pendings(s.pendingDir())
	if err != nil || len(dead) == 0 {
		return err
	}
	defer func() {
		for _, u := range dead {
			u.file.Close()
		}
	}()
	s.makeRoom()
	var drop []*unfinished
	for _, u := range dead {
		fi, err := u.file.Stat()
		if u.keep && !all && err == nil && time.Since(fi.ModTime()) < keepUnfinished {
			err = s.settle(u)
			if err != nil {
				return err
			}
			continue
		}
		drop = append(drop, u)
	}
	if err := s.dropUnfinished(drop); err != nil {
		return err
	}
	for _, u := range drop {
		if err := os.Remove(u.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// settle leaves of a pull that was killed nothing but its layers; once an image has
// them all, not even the file.
func (s *Store) settle(u *unfinished) error {
	if err := s.dropImages([]*unfinished{u}); err != nil {
		return err
	}
	used, err := s.usedLayers(nil)
	if err != nil {
		return err
	}
	var rest strings.Builder
	waits := false
	rest.WriteString(lineKeep + "\n")
	u.each(lineLayer, func(id string) {
		rest.WriteString(lineLayer + id + "\n")
		waits = waits || !used[id] && s.hasLayer(id)
	})
	if !waits {
		return os.Remove(u.path)
	}
	if len(u.held) == strings.Count(rest.String(), "\n")-1 {
		return nil
	}
	fi, err := u.file.Stat()
	if err == nil {
		err = u.file.Truncate(0)
	}
	if err == nil {
		_, err = u.file.WriteAt([]byte(rest.String()), 0)
	}
	if err == nil {
		err = os.Chtimes(u.path, fi.ModTime(), fi.ModTime()) // the week goes on
	}
	return err
}

// dropUnfinished removes what those have left. The lock of the directory is held.
func (s *Store) dropUnfinished(drop []*unfinished) error {
	if len(drop) == 0 {
		return nil
	}
	if err := s.dropImages(drop); err != nil {
		return err
	}
	live, dead, err := pendings(s.pendingDir())
	if err != nil {
		return err
	}
	var others []*unfinished
	for _, u := range append(live, dead...) {
		u.file.Close()
		if !slices.ContainsFunc(drop, func(d *unfinished) bool { return d.path == u.path }) {
			others = append(others, u)
		}
	}
	used, err := s.usedLayers(others)
	if err != nil {
		return err
	}
	var ids []string
	for _, u := range drop {
		u.each(lineLayer, func(id string) {
			if !used[id] && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		})
	}
	if err := s.deleteLayers(ids); err != nil {
		return err
	}
	return s.sweepLibrary()
}

// dropImages removes the images that were being recorded and have not all of their
// documents, or not the name that they were to get.
func (s *Store) dropImages(drop []*unfinished) error {
	var all error
	for _, u := range drop {
		u.each(lineNew, func(rest string) {
			id, name, _ := strings.Cut(rest, " ")
			img, err := s.lib.Image(id)
			if err != nil || img.ID != id {
				return
			}
			if s.isWhole(img) && (name == "" || len(img.Names) > 0) {
				return
			}
			slog.Debug("an image that was not recorded to its end is removed", "image", id)
			_, err = s.lib.DeleteImage(id, true)
			all = errors.Join(all, err)
		})
	}
	return all
}

// isWhole says whether an image has its configuration and its manifest. A list has
// the latter only.
func (s *Store) isWhole(img *cs.Image) bool {
	if s.isList(img) {
		return true
	}
	for _, key := range []string{"sha256:" + img.ID, cs.ImageDigestBigDataKey} {
		if _, err := s.lib.ImageBigData(img.ID, key); err != nil {
			return false
		}
	}
	return true
}

// usedLayers are the layers of images and of the library's containers, those that
// somebody holds, and what they stand on.
func (s *Store) usedLayers(holders []*unfinished) (map[string]bool, error) {
	layers, err := s.lib.Layers()
	if err != nil {
		return nil, err
	}
	images, err := s.lib.Images()
	if err != nil {
		return nil, err
	}
	containers, err := s.lib.Containers()
	if err != nil {
		return nil, err
	}
	parent := make(map[string]string, len(layers))
	for i := range layers {
		parent[layers[i].ID] = layers[i].Parent
	}
	used := make(map[string]bool)
	use := func(id string) {
		for ; id != "" && !used[id]; id = parent[id] {
			used[id] = true
		}
	}
	for i := range images {
		use(images[i].TopLayer)
		for _, id := range images[i].MappedTopLayers {
			use(id)
		}
	}
	for i := range containers {
		use(containers[i].LayerID)
	}
	for _, u := range holders {
		u.each(lineLayer, use)
	}
	return used, nil
}

// deleteLayers deletes those of the layers that are there, uppermost first.
func (s *Store) deleteLayers(ids []string) error {
	depth := func(id string) (n int) {
		for id != "" {
			layer, err := s.lib.Layer(id)
			if err != nil {
				break
			}
			id, n = layer.Parent, n+1
		}
		return n
	}
	depths := make(map[string]int, len(ids))
	for _, id := range ids {
		depths[id] = depth(id)
	}
	slices.SortFunc(ids, func(a, b string) int { return depths[b] - depths[a] })
	var all error
	for _, id := range ids {
		err := s.lib.DeleteLayer(id)
		if errors.Is(err, cs.ErrLayerHasChildren) || errors.Is(err, cs.ErrNotALayer) || errors.Is(err, cs.ErrLayerUnknown) {
			continue // an image has come to use it, or it never came
		}
		all = errors.Join(all, err)
	}
	return all
}

// sweepLibrary deletes files of the library's that none of its records knows: of an
// image or layer whose removal was cut short, or that was staged and never placed.
func (s *Store) sweepLibrary() error {
	if err := s.lib.GarbageCollect(); err != nil {
		return err
	}
	drv, err := s.lib.GraphDriver()
	if err != nil {
		return err
	}
	return errors.Join(drv.Cleanup(), s.sweepHalfWritten())
}

// sweepHalfWritten removes the files that the library had not renamed into place, and
// links to no layer. While it writes, it holds the lock beside them.
func (s *Store) sweepHalfWritten() error {
	var all error
	for _, kind := range []string{"layers", "images", "containers"} {
		dir := filepath.Join(s.Root, "storage", s.lib.GraphDriverName()+"-"+kind)
		var left []string
		for _, pattern := range []string{".tmp-*", "*/.tmp-*"} {
			some, _ := filepath.Glob(filepath.Join(dir, pattern))
			left = append(left, some...)
		}
		links := 0
		if kind == "layers" {
			links, left = len(left), append(left, s.deadLinks()...)
		}
		if len(left) == 0 {
			continue
		}
		held, err := lockfile.GetLockFile(filepath.Join(dir, kind+".lock"))
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		held.Lock()
		if kind == "layers" { // a layer may have come meanwhile
			left = append(left[:links], s.deadLinks()...)
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				all = errors.Join(all, err)
			}
		}
		held.Unlock()
	}
	return all
}

// deadLinks are the short names of layers that are not there.
func (s *Store) deadLinks() (dead []string) {
	links, _ := filepath.Glob(filepath.Join(s.Root, "storage", "overlay", "l", "*"))
	for _, path := range links {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			dead = append(dead, path)
		}
	}
	return dead
}
