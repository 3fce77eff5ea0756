package seccomp

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"moss/record"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// cacheVersion changes when Compile makes other filters of the same profiles.
const cacheVersion = "1"

// ErrNotCacheable says that a profile is more than its instructions: it has flags
// or a listener, and has to be given to the runtime as it is.
var ErrNotCacheable = errors.New("the seccomp profile has flags or a listener")

// Cached returns the file of the compiled filter of a profile. key is all that
// determines the profile: its name or content, the capabilities, and the version
// of the program that builds it. Only when there is no file yet, build is called
// and its profile compiled; nil from build (no filter wanted) gives "".
func Cached(dir string, key []byte, build func() (*specs.LinuxSeccomp, error)) (string, error) {
	hash := sha256.New()
	hash.Write([]byte(cacheVersion + "\x00" + runtime.GOARCH + "\x00"))
	hash.Write(key)
	path := filepath.Join(dir, hex.EncodeToString(hash.Sum(nil)[:16])+".bpf")
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		return path, nil
	}

	profile, err := build()
	if err != nil || profile == nil {
		return "", err
	}
	_, listener, err := Flags(profile)
	if err != nil {
		return "", err
	}
	if listener || profile.Flags != nil {
		return "", ErrNotCacheable
	}
	program, err := Compile(profile)
	if err != nil {
		return "", err
	}
	if err := writeAtomically(path, program); err != nil {
		return "", fmt.Errorf("cannot keep seccomp filter: %w", err)
	}
	return path, nil
}

// writeAtomically leaves either nothing or all of it, also when several do it.
func writeAtomically(path string, data []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return record.Replace(path, data, 0o600, false)
}
