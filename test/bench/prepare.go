package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// bench is what the rows share.
type bench struct {
	pairs    int
	quick    bool
	only     *regexp.Regexp
	bin      string // moss and box
	dir      string // everything that is made: home, run, root
	env      []string
	path     string
	archive  string // docker-archive of the image that both run
	registry string // address, "" until it is asked for
	ends     []func()
	closed   sync.Once
}

const image = "localhost/bench:latest"

func prepare(bin string, pairs int, quick bool) (*bench, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "moss-bench")
	if err != nil {
		return nil, err
	}
	run, err := os.MkdirTemp(os.Getenv("XDG_RUNTIME_DIR"), "b")
	if err != nil {
		return nil, err
	}
	b := &bench{pairs: pairs, quick: quick, bin: bin, dir: dir, path: bin + ":" + os.Getenv("PATH")}
	b.ends = append(b.ends, func() { os.RemoveAll(dir); os.RemoveAll(run) })
	home := filepath.Join(dir, "home")
	b.env = []string{"PATH=" + b.path, "HOME=" + home, "XDG_RUNTIME_DIR=" + run, "LANG=C.UTF-8", "USER=" + os.Getenv("USER")}
	if err := configurePodman(home); err != nil {
		return b, err
	}
	b.archive = filepath.Join(dir, "bench.tar")
	if err := b.writeArchive(); err != nil {
		return b, err
	}
	for _, program := range []string{"moss", "podman"} {
		if _, err := b.look(program); err != nil {
			continue
		}
		if err := b.spawn(program, "load", "-q", "-i", b.archive); err != nil {
			return b, err
		}
	}
	// podman falls back to vfs without a word when overlay does not work.
	if driver, err := b.output("podman", "info", "--format", "{{.Store.GraphDriverName}}"); err == nil && driver != "overlay" {
		return b, fmt.Errorf("podman uses the %s driver: not a fair comparison", driver)
	}
	return b, nil
}

// configurePodman makes podman do as well as it can without systemd. Keyrings are
// collected slowly, and a user has 200.
func configurePodman(home string) error {
	conf := filepath.Join(home, ".config/containers")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"storage.conf":    "[storage]\ndriver = \"overlay\"\n",
		"registries.conf": "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n",
		"containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[containers]\nlog_driver = \"k8s-file\"\nkeyring = false\n",
		"policy.json":     `{"default": [{"type": "insecureAcceptAnything"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(conf, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// killBelow kills what names the run directory in its command line, and its
// children: podman 4.3 removes the records of containers whose processes it leaves
// running, where there is no systemd.
func killBelow(run string) {
	if run == "" {
		return
	}
	for _, pid := range processes() {
		line, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err != nil || !strings.Contains(string(line), run) {
			continue
		}
		children, _ := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		for _, p := range append(strings.Fields(string(children)), pid) {
			if n, err := strconv.Atoi(p); err == nil && n != os.Getpid() {
				syscall.Kill(n, syscall.SIGKILL)
			}
		}
	}
}

// close removes containers and files, some of which only the user's namespace may.
func (b *bench) close() {
	for _, program := range []string{"moss", "podman"} {
		if _, err := b.look(program); err == nil {
			if err := b.spawn(program, "rm", "-fa", "-t", "0"); err != nil {
				log.Printf("cannot clean up: %v", err)
			}
			b.spawn(program, "unshare", "rm", "-rf", filepath.Join(b.dir, "home/.local"))
		}
	}
	run := ""
	for _, kv := range b.env {
		if v, ok := strings.CutPrefix(kv, "XDG_RUNTIME_DIR="); ok {
			run = v
		}
	}
	for _, file := range []string{"moss/net/moss-net.pid", "moss/pause", "libpod/tmp/pause.pid"} {
		text, err := os.ReadFile(filepath.Join(run, file))
		if err != nil || len(text) == 0 {
			continue
		}
		fields := strings.Fields(string(text))
		if pid, err := strconv.Atoi(fields[min(1, len(fields)-1)]); err == nil && pid > 1 {
			syscall.Kill(pid, syscall.SIGTERM)
			time.Sleep(100 * time.Millisecond)
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	killBelow(run)
	for i := range b.ends {
		b.ends[len(b.ends)-1-i]()
	}
}

// look finds a program in the bench's own PATH.
func (b *bench) look(program string) (string, error) {
	for dir := range strings.SplitSeq(b.path, ":") {
		full := filepath.Join(dir, program)
		if info, err := os.Stat(full); err == nil && info.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", program)
}

func (b *bench) version(program string) string {
	if program == "bwrap" || program == "moss" || program == "podman" || program == "crun" || program == "conmon" {
		out, err := b.output(program, "--version")
		if err != nil {
			return ""
		}
		line, _, _ := strings.Cut(out, "\n")
		return line
	}
	return ""
}

// files of the image: busybox where there is a static one, else box; both know true and sleep.
func (b *bench) files() (program string, names []string) {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if out, err := exec.Command("ldd", path).CombinedOutput(); err != nil && len(out) > 0 {
			return path, []string{"true", "sleep", "echo", "sh"}
		}
	}
	return filepath.Join(b.bin, "box"), []string{"true", "sleep", "echo"}
}

// rootDir is the image's content as a directory, for bwrap and crun.
func (b *bench) rootDir() (string, error) {
	root := filepath.Join(b.dir, "root")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	program, names := b.files()
	data, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	for _, d := range rootDirs {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(root, "bin", filepath.Base(program)), data, 0o755); err != nil {
		return "", err
	}
	for _, n := range names {
		if err := os.Symlink(filepath.Base(program), filepath.Join(root, "bin", n)); err != nil {
			return "", err
		}
	}
	return root, nil
}

var rootDirs = []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var"}

func (b *bench) writeArchive() error {
	program, names := b.files()
	data, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := layerOf(func(w *tar.Writer) error {
		// The directories that a distribution's image has; and the files.
		for _, dir := range rootDirs {
			if err := add(w, &tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil); err != nil {
				return err
			}
		}
		for _, file := range []string{"passwd", "group", "hosts", "hostname", "resolv.conf"} {
			text := map[string]string{"passwd": "root:x:0:0:root:/root:/bin/sh\n", "group": "root:x:0:\n"}[file]
			if err := add(w, &tar.Header{Name: "etc/" + file, Mode: 0o644, Size: int64(len(text))}, []byte(text)); err != nil {
				return err
			}
		}
		if err := add(w, &tar.Header{Name: "bin/" + filepath.Base(program), Mode: 0o755, Size: int64(len(data))}, data); err != nil {
			return err
		}
		for _, n := range names {
			if err := add(w, &tar.Header{Name: "bin/" + n, Typeflag: tar.TypeSymlink, Linkname: filepath.Base(program), Mode: 0o777}, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	i, err := imageOf(layer)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(image)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(b.archive, tag, i)
}

func add(w *tar.Writer, h *tar.Header, data []byte) error {
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

func layerOf(fill func(*tar.Writer) error) (v1.Layer, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	if err := fill(w); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil })
}

func imageOf(layers ...v1.Layer) (v1.Image, error) {
	i, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	c, err := i.ConfigFile()
	if err != nil {
		return nil, err
	}
	c.OS, c.Architecture, c.Created = "linux", runtime.GOARCH, v1.Time{Time: time.Now()}
	c.Config.Env, c.Config.Cmd = []string{"PATH=/bin"}, []string{"true"}
	return mutate.ConfigFile(i, c)
}
