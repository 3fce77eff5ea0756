package syntax

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Environment reads NAME=VALUE, NAME (its value comes from host, and there is
// nothing to set when host has none) and PREFIX* (all such names of host).
func Environment(s string, host []string) ([]string, error) {
	name, _, hasValue := strings.Cut(s, "=")
	if name == "" && hasValue {
		return nil, fmt.Errorf("the name before the = is empty")
	}
	if strings.ContainsRune(s, 0) {
		return nil, fmt.Errorf("it contains a NUL byte")
	}
	if hasValue {
		return []string{s}, nil
	}
	if s == "" {
		return nil, nil
	}
	prefix, glob := strings.CutSuffix(name, "*")
	var out []string
	for _, kv := range host {
		have, _, _ := strings.Cut(kv, "=")
		if have == name || glob && strings.HasPrefix(have, prefix) {
			out = append(out, kv)
		}
	}
	return out, nil
}

// EnvironmentFile reads a file of such lines. Blank lines and lines that begin
// with # say nothing; values are taken as they stand, quotes and all.
func EnvironmentFile(path string, host []string) ([]string, error) {
	var out []string
	err := eachLine(path, func(line string) error {
		kv, err := Environment(line, host)
		out = append(out, kv...)
		return err
	})
	return out, err
}

// eachLine calls do with every line of a file that is not blank or a comment.
func eachLine(path string, do func(string) error) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return cause(err)
	}
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, len(data)+1)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSuffix(scan.Text(), "\r")
		line = strings.TrimLeft(line, " \t")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := do(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return scan.Err()
}

// KeyValue reads KEY=VALUE; with bare, KEY alone has an empty value.
func KeyValue(s string, bare bool) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if key == "" {
		return "", "", fmt.Errorf("the key before the = is empty")
	}
	if !ok && !bare {
		return "", "", fmt.Errorf("want KEY=VALUE")
	}
	return key, value, nil
}

// LabelFile reads a file of KEY=VALUE lines into labels.
func LabelFile(path string, labels map[string]string) error {
	return eachLine(path, func(line string) error {
		key, value, err := KeyValue(line, true)
		labels[key] = value
		return err
	})
}

// Entrypoint reads a command, or a JSON array of its words. "" means no entry point.
func Entrypoint(s string) ([]string, error) {
	if s == "" {
		return []string{}, nil
	}
	if !strings.HasPrefix(s, "[") {
		return []string{s}, nil
	}
	words := []string{}
	d := json.NewDecoder(strings.NewReader(s))
	if err := d.Decode(&words); err != nil {
		return nil, fmt.Errorf("not a JSON array of strings: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("something follows the JSON array")
	}
	return words, nil
}

// cause strips the operation and path that the caller's message already has.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
