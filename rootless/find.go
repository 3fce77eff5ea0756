package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
)

// staleAge is how old a half-made record must be before a sweep takes it for a
// crash's: no create takes that long between two of its writes.
const staleAge = 10 * time.Minute

func olderThan(path string, age time.Duration) bool {
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) > age
}

// Find returns the container of that name, ID or unique ID prefix.
func (e *Engine) Find(nameOrID string) (*container.Container, error) {
	if nameOrID == "" {
		return nil, fmt.Errorf("cannot find container %q: no name or ID given: %w", nameOrID, errdefs.ErrInvalidArgument)
	}
	if CheckName(nameOrID) == nil {
		if id, err := record.ReadFile(e.Paths.Name(nameOrID)); err == nil && len(id) == 64 {
			if c, err := e.load(string(id)); err == nil {
				return c, nil
			}
		}
	}
	id, err := e.findID(strings.ToLower(nameOrID))
	if errors.Is(err, errdefs.ErrNotFound) {
		if c := e.named(nameOrID); c != nil {
			return c, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return e.load(id)
}

// named finds a container whose file in names/ was lost or damaged, and makes the file again.
func (e *Engine) named(name string) *container.Container {
	all, err := e.All()
	i := slices.IndexFunc(all, func(c *container.Container) bool { return c.Spec.Name == name })
	if err != nil || i < 0 {
		return renamed(all, name)
	}
	if err := record.Replace(e.Paths.Name(name), []byte(all[i].Spec.ID), 0o600, false); err != nil {
		slog.Debug("cannot make name again", "name", name, "err", err)
	}
	return all[i]
}

// renamed finds the container that a unit has made under a name, for the unit's own command
// lines, as ExecStop=: they go on to use that name when the container has got another one. A
// script that the unit runs may have renamed it itself, and is told that there is none:
// only what the service manager executes has its own PID in $SYSTEMD_EXEC_PID; see systemd.exec(5).
func renamed(all []*container.Container, name string) *container.Container {
	unit := os.Getenv(UnitLabel)
	if unit == "" || os.Getenv("SYSTEMD_EXEC_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	i := slices.IndexFunc(all, func(c *container.Container) bool {
		return c.Spec.Lifecycle.UnitName == name && c.Spec.Labels[UnitLabel] == unit
	})
	if i < 0 {
		return nil
	}
	return all[i]
}

func (e *Engine) findID(prefix string) (string, error) {
	ids, err := e.ids()
	if err != nil {
		return "", err
	}
	found := ""
	for _, id := range ids {
		if !strings.HasPrefix(id, prefix) || id != prefix && e.halfMade(id) {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("cannot find container %q: more than one ID begins so: %w", prefix, errdefs.ErrInvalidArgument)
		}
		found = id
	}
	if found == "" {
		return "", fmt.Errorf("cannot find container %q: no container with that name or ID: %w", prefix, errdefs.ErrNotFound)
	}
	return found, nil
}

// halfMade says whether create has not written the record yet, or never will:
// only the whole ID names such a container. One that has run had a record.
func (e *Engine) halfMade(id string) bool {
	dir := e.Paths.Container(id)
	return !lexists(filepath.Join(dir, container.SpecFile)) && !container.HasRun(dir, e.Paths.RunContainer(id))
}

// ids lists the directories that hold a record.
func (e *Engine) ids() ([]string, error) {
	entries, err := os.ReadDir(e.Paths.Containers())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	var out []string
	for _, entry := range entries {
		if len(entry.Name()) == 64 {
			out = append(out, entry.Name())
		}
	}
	return out, nil
}

// load reads a record. One that is there and cannot be read makes a damaged container.
func (e *Engine) load(id string) (*container.Container, error) {
	dir, runDir := e.Paths.Container(id), e.Paths.RunContainer(id)
	c, err := container.Load(dir, runDir)
	if errors.Is(err, fs.ErrNotExist) && !e.halfMade(id) {
		c, err = container.Load(dir, runDir) // create may have written it just now
	}
	if err == nil {
		c.Announce = func() error { return e.announce(runDir) }
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) && e.halfMade(id) {
		return c, err
	}
	info, statErr := os.Stat(dir)
	if statErr != nil {
		return nil, err
	}
	c = &container.Container{Dir: dir, RunDir: runDir, Damaged: err, Announce: func() error { return e.announce(runDir) }}
	c.Spec.Version, c.Spec.ID, c.Spec.Created = container.SpecVersion, id, info.ModTime()
	c.Spec.Name = e.nameOf(id)
	slog.Warn("the record of a container is damaged: it can be stopped and removed, no more", "container", c.Spec.Name, "err", err)
	return c, nil
}

// announce asks a monitor to write live.json again.
func (e *Engine) announce(runDir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return client.Control(ctx, runDir, monitor.ControlRequest{Op: "announce"})
}

// nameOf finds a container's name by its file in names/.
func (e *Engine) nameOf(id string) string {
	entries, _ := os.ReadDir(e.Paths.Names())
	for _, entry := range entries {
		if holder, err := record.ReadFile(e.Paths.Name(entry.Name())); err == nil && string(holder) == id {
			return entry.Name()
		}
	}
	return id[:12]
}

// All returns every container, oldest first. A record that is half-made is left out.
func (e *Engine) All() ([]*container.Container, error) {
	ids, err := e.ids()
	if err != nil {
		return nil, err
	}
	out := make([]*container.Container, len(ids))
	inParallel(len(ids), func(i int) {
		if c, err := e.load(ids[i]); err == nil {
			out[i] = c
		}
	})
	out = slices.DeleteFunc(out, func(c *container.Container) bool { return c == nil })
	slices.SortFunc(out, func(a, b *container.Container) int { return a.Spec.Created.Compare(b.Spec.Created) })
	return out, nil
}

// Look looks at each of a list of containers.
func Look(list []*container.Container) []container.View {
	views := make([]container.View, len(list))
	inParallel(len(list), func(i int) { views[i] = list[i].Look() })
	return views
}

// inParallel does n small things, in two halves when there are many.
func inParallel(n int, do func(i int)) {
	half := n
	if n >= 8 {
		half = n / 2
	}
	var other sync.WaitGroup
	if half < n {
		other.Go(func() {
			for i := half; i < n; i++ {
				do(i)
			}
		})
	}
	for i := range half {
		do(i)
	}
	other.Wait()
}

// Latest returns the newest container.
func (e *Engine) Latest() (*container.Container, error) {
	all, err := e.All()
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cannot find the latest container: there is none: %w", errdefs.ErrNotFound)
	}
	return all[len(all)-1], nil
}

// Using returns the IDs of the containers of each image.
func (e *Engine) Using() (map[string][]string, error) {
	all, err := e.All()
	out := map[string][]string{}
	for _, c := range all {
		if c.Spec.Image.ID != "" {
			out[c.Spec.Image.ID] = append(out[c.Spec.Image.ID], c.Spec.ID)
		}
		for _, m := range c.Spec.Rootfs.Mounts {
			if m.ImageID != "" && m.ImageID != c.Spec.Image.ID {
				out[m.ImageID] = append(out[m.ImageID], c.Spec.ID)
			}
		}
	}
	return out, err
}

// sweep deletes what a crash left: trash, names and directories without a record.
// It looks at everything, so it does so once in staleAge.
func (e *Engine) sweep() {
	stamp := e.Paths.Swept()
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()).Abs() < staleAge {
		return
	}
	if f, err := os.Create(stamp); err == nil { // which sets its time
		f.Close()
	}
	for _, left := range e.leftovers() {
		left.remove()
	}
}

func lexists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
