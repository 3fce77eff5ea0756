package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pullRows: an image of ten layers and 1 GB by a registry on loopback.
func (b *bench) pullRows() []row {
	// The registry is filled before the clock runs.
	ready := func(int) error { _, err := b.large(); return err }
	pull := func(p string, version func(i int) string) func(int) error {
		return func(i int) error {
			return b.spawn(p, "pull", "-q", "--tls-verify=false", b.registry+"/large:"+version(i))
		}
	}
	latest := func(int) string { return "latest" }
	numbered := func(i int) string { return fmt.Sprintf("v%d", i) }
	all := func(p string) func(int) error { return func(int) error { return b.spawn(p, "rmi", "-fa") } }
	first := func(p string) side {
		return side{name: p, before: ready, timed: pull(p, latest), after: all(p)}
	}
	second := func(p string) side {
		kept := once(func() error { return pull(p, latest)(0) })
		return side{name: p, before: func(i int) error { return errors.Join(ready(i), kept(i)) }, timed: pull(p, numbered)}
	}
	memory := func(p string) side {
		return side{name: p, before: func(i int) error { return errors.Join(ready(i), all(p)(i)) }, value: func(int) (float64, error) {
			return b.treePeak(p, "pull", "-q", "--tls-verify=false", b.registry+"/large:latest")
		}, after: all(p)}
	}
	return []row{
		{name: "pull, 10 layers, 1 GB", must: 0.5, stretch: 0.4, pairs: 3, moss: first("moss"), other: first("podman")},
		{name: "pull, the same with a changed top layer of 10 MB", must: 0.3, stretch: 0.2, pairs: 5, moss: second("moss"), other: second("podman")},
		{name: "peak memory of that pull of 1 GB, all its processes", unit: "KiB", must: noTarget, stretch: noTarget, pairs: 2, moss: memory("moss"), other: memory("podman")},
	}
}

// treePeak runs a program and returns the most memory that it and all below it had
// resident at one time, in KiB, as far as a look every few milliseconds sees it.
func (b *bench) treePeak(args ...string) (float64, error) {
	path, err := b.look(args[0])
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Env, cmd.Dir = b.env, b.dir
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	most := 0
	for {
		select {
		case err := <-done:
			return float64(most), err
		case <-time.After(5 * time.Millisecond):
			most = max(most, resident(cmd.Process.Pid))
		}
	}
}

// resident is the memory of a process and all below it, in KiB.
func resident(pid int) (sum int) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
		n, _ := strconv.Atoi(strings.Fields(rest)[0])
		sum += n
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range tasks {
		children, _ := os.ReadFile(path)
		for _, child := range strings.Fields(string(children)) {
			if n, err := strconv.Atoi(child); err == nil {
				sum += resident(n)
			}
		}
	}
	return sum
}

// large pushes an image of ten layers and 1 GB, in files of all sizes, half of whose
// bytes compress, to a registry on loopback, and returns its name there. The tag is
// latest; under v0, v1… the same below a top layer of 10 MB that is another each time.
func (b *bench) large() (string, error) {
	if b.registry != "" {
		return b.registry + "/large", nil
	}
	address, err := b.startRegistry()
	if err != nil {
		return "", err
	}
	random := rand.New(rand.NewPCG(1, 2))
	var layers []v1.Layer
	for l := range 10 {
		layer, err := filled(random, fmt.Sprintf("l%d", l), 100<<20)
		if err != nil {
			return "", err
		}
		layers = append(layers, layer)
	}
	push := func(tag string, layers []v1.Layer) error {
		i, err := imageOf(layers...)
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(address+"/large:"+tag, name.Insecure)
		if err != nil {
			return err
		}
		return remote.Write(ref, i)
	}
	if err := push("latest", layers); err != nil {
		return "", err
	}
	for v := range largeVersions {
		top, err := filled(random, "l9", 10<<20)
		if err != nil {
			return "", err
		}
		if err := push(fmt.Sprintf("v%d", v), append(layers[:9:9], top)); err != nil {
			return "", err
		}
	}
	b.registry = address
	return address + "/large", nil
}

// largeVersions is how many images of large differ in the top layer only.
const largeVersions = 16

// filled is a layer of that many bytes, half of which compress, in files of up to 2 MiB.
func filled(random *rand.Rand, dir string, size int) (v1.Layer, error) {
	return layerOf(func(w *tar.Writer) error {
		for left, n := size, 0; left > 0; n++ {
			data := make([]byte, min(left, 1<<(8+random.IntN(14))))
			for j := 0; j < len(data)/2; j += 8 {
				for k, x := 0, random.Uint64(); k < 8 && j+k < len(data); k, x = k+1, x>>8 {
					data[j+k] = byte(x)
				}
			}
			left -= len(data)
			if err := add(w, &tar.Header{Name: fmt.Sprintf("%s/%d/%d", dir, n%64, n), Mode: 0o644, Size: int64(len(data))}, data); err != nil {
				return err
			}
		}
		return nil
	})
}

// startRegistry runs a registry for as long as the bench runs.
func (b *bench) startRegistry() (string, error) { return b.startRegistryIn(b.dir) }

// startRegistryIn runs Debian's docker-registry, or else one in this process; its
// files are below dir.
func (b *bench) startRegistryIn(dir string) (string, error) {
	path, err := b.look("docker-registry")
	if err != nil {
		server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		b.ends = append(b.ends, server.Close)
		return strings.TrimPrefix(server.URL, "http://"), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	address := l.Addr().String()
	l.Close()
	config := filepath.Join(dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", filepath.Join(dir, "registry"), address)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return "", err
	}
	cmd := exec.Command(path, "serve", config)
	cmd.Env = b.env
	if err := cmd.Start(); err != nil {
		return "", err
	}
	b.ends = append(b.ends, func() { cmd.Process.Kill(); cmd.Wait() })
	for range 100 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return address, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", errors.New("docker-registry does not answer")
}
