package test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// imageCrash kills moss-image before each of its steps in turn, counted from the
// start of `moss VERB` in SHELL, which may make images named localhost/layers and localhost/crash…. After
// each, every image that is listed is whole, the same SHELL succeeds, and nothing of
// the images stays on the disk when they are removed.
//
//	imagecrash VERB STRIDE SHELL
func imageCrash(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: imagecrash VERB STRIDE SHELL")
	}
	stride, err := strconv.Atoi(args[1])
	if err != nil || stride < 1 {
		return fmt.Errorf("%q is no stride", args[1])
	}
	if os.Getenv("MOSS_CRASH") == "all" {
		stride = 1
	}
	c := imageCrasher{crasher{ts}, args[2]}
	before, err := c.files()
	if err != nil {
		return err
	}
	hit := 0
	var wrong []error
	for n := 1; len(wrong) < 5; n += stride {
		out, err := c.run("box", "crash", "moss-image", args[0], strconv.Itoa(n), "sh", "-c", args[2])
		var exit *exec.ExitError
		ended := errors.As(err, &exit) && exit.ExitCode() == 3
		if err != nil && !ended {
			return fmt.Errorf("%w: %s", err, out)
		}
		err = c.whole()
		// The next command finds what the crash left: the same again, or another.
		if err == nil && hit%2 == 0 {
			if out, rerr := c.run("sh", "-ec", args[2]); rerr != nil {
				err = fmt.Errorf("again: %w: %s", rerr, out)
			}
		}
		if err = errors.Join(err, c.clean(before)); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", strings.TrimSpace(out), err))
		}
		if ended {
			break
		}
		hit++
	}
	if hit == 0 {
		return fmt.Errorf("moss-image has no step in moss %s", args[0])
	}
	ts.Logf("moss-image killed at %d steps of %s", hit, args[0])
	return errors.Join(wrong...)
}

type imageCrasher struct {
	crasher
	shell string
}

// whole: what is listed can be read to its last byte, and run.
func (c imageCrasher) whole() error {
	list, err := c.run("moss", "images", "--no-trunc", "--format", "{{.Repository}} {{.ID}}")
	if err != nil {
		return fmt.Errorf("images: %w: %s", err, list)
	}
	for line := range strings.Lines(list) {
		name, id, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(id, "sha256:") || name == "<none>" && !strings.Contains(c.shell, "untag") {
			return fmt.Errorf("images says %q", list)
		}
		if !strings.HasPrefix(name, "localhost/crash") && name != "localhost/layers" {
			continue
		}
		for _, step := range [][]string{{"inspect", id}, {"save", "-q", "-o", "/dev/null", id}, {"run", "--rm", id, "true"}} {
			if out, err := c.run(append([]string{"moss"}, step...)...); err != nil {
				return fmt.Errorf("moss %s: %w: %s", strings.Join(step, " "), err, out)
			}
		}
	}
	return nil
}

// clean removes the images and looks for what stays.
func (c imageCrasher) clean(before []string) error {
	const remove = `moss rmi -f localhost/layers $(moss images -q --filter reference=layers) $(moss images -q --filter reference='localhost/crash*') $(moss images -q --filter dangling=true)`
	if out, err := c.run("sh", "-ec", remove); err != nil {
		return fmt.Errorf("rmi: %w: %s", err, out)
	}
	if strings.Contains(c.shell, "moss pull") { // which keeps what it has for its next try
		if out, err := c.run("moss", "system", "gc", "--all"); err != nil {
			return fmt.Errorf("gc: %w: %s", err, out)
		}
	}
	// What rmi has taken out of the lists moss-image deletes behind it.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after, err := c.files()
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(after, func(path string) bool { return slices.Contains(before, path) })
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("left behind: %s", strings.Join(left, " "))
		}
	}
}

// files are those that images are made of, but for locks.
func (c imageCrasher) files() ([]string, error) {
	root := c.ts.Getenv("HOME") + "/.local/share/moss/"
	var all []string
	for _, pattern := range []string{"storage/overlay/*", "storage/overlay/l/*", "storage/overlay/staging/*", "storage/overlay/tempdirs/*",
		"storage/overlay-images/*", "storage/overlay-layers/*", "storage/overlay-layers/tmp/*", "storage-tmp/*", "images/*.json", "pending/*", "mapped/*", "trash/*"} {
		some, err := filepath.Glob(root + pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range some {
			name := filepath.Base(path)
			fi, err := os.Lstat(path)
			if errors.Is(err, fs.ErrNotExist) || fi.IsDir() && slices.Contains([]string{"l", "staging", "tempdirs", "tmp"}, name) || strings.HasSuffix(name, ".lock") {
				continue
			}
			all = append(all, strings.TrimPrefix(path, root))
		}
	}
	return all, nil
}
