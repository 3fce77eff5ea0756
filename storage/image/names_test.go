package image

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// renaming makes a store with two images and the index of it.
func renaming(t *testing.T) (*Images, string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "storage", "overlay-images")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "images.json")
	list := `[{"id":"` + firstID + `","digest":"sha256:aa","names":["localhost/a:1"],"names-history":["localhost/a:1"],"metadata":"{\"x\":[\"\\\\\"]}","created":"2024-01-01T00:00:00Z","flags":{"k":1.50}},` +
		`{"id":"` + secondID + `","names":["localhost/b:1","localhost/b:2"],"layer":"l"}]`
	for file, text := range map[string]string{path: list, filepath.Join(dir, "images.lock"): "before"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries := []Entry{{ID: firstID, Names: []string{"localhost/a:1"}, Stamp: "1"}, {ID: secondID, Names: []string{"localhost/b:1", "localhost/b:2"}, Stamp: "1"}}
	err := Update(root, []StoreState{StatStore(path)}, entries, func(e Entry) (*Image, error) {
		return &Image{ID: e.ID, Names: e.Names}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return Open(root), path
}

const (
	firstID  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secondID = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// A name moves from one image to another in the store's list, in the records and in
// the index; all else in the list stays, and others are told to read it again.
func TestRename(t *testing.T) {
	im, path := renaming(t)
	if err := im.Rename(firstID, []string{"localhost/b:2", "localhost/new:1"}, []string{"localhost/a:1"}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	want := []map[string]any{
		{"id": firstID, "digest": "sha256:aa", "names": []any{"localhost/b:2", "localhost/new:1"}, "names-history": []any{"localhost/new:1", "localhost/b:2", "localhost/a:1"},
			"metadata": `{"x":["\\"]}`, "created": "2024-01-01T00:00:00Z", "flags": map[string]any{"k": 1.5}},
		{"id": secondID, "names": []any{"localhost/b:1"}, "layer": "l"},
	}
	if !reflect.DeepEqual(list, want) {
		t.Errorf("the store says %s", data)
	}
	lock, err := os.ReadFile(filepath.Join(filepath.Dir(path), "images.lock"))
	if err != nil || len(lock) != 64 {
		t.Errorf("the lock file holds %q, %v", lock, err)
	}
	if !im.Fresh() {
		t.Error("the index is not of the store as it is")
	}
	for name, id := range map[string]string{"localhost/b:2": firstID, "new:1": firstID, "b:1": secondID} {
		if i, err := Open(im.root).Lookup(name); err != nil || i.ID != id || !slices.Contains(i.Names, "localhost/"+strings.TrimPrefix(name, "localhost/")) {
			t.Errorf("%s is %v, %v", name, i, err)
		}
	}
	if _, err := im.Lookup("a:1"); err == nil {
		t.Error("a name that was taken away is still there")
	}
}

// A store that has changed, or that is not as it is known, is left to moss-image.
func TestRenameLeft(t *testing.T) {
	im, path := renaming(t)
	for _, text := range []string{"", "{}", "[1]", `[{"id":"` + firstID, `[{"id":"` + firstID + `","names":3}]`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := im.Rename(firstID, []string{"localhost/x:1"}, nil); err != ErrHelper {
			t.Errorf("a list that changed: %v", err)
		}
		if _, err := renameInStore(StatStore(path), firstID, []string{"localhost/x:1"}, nil); text != "" && err != ErrHelper {
			t.Errorf("%q: %v", text, err)
		}
		if data, _ := os.ReadFile(path); string(data) != text {
			t.Errorf("%q has become %q", text, data)
		}
	}
}

// A removed image is in no list; what it was named is free.
func TestRemove(t *testing.T) {
	im, _ := renaming(t)
	if err := im.Remove([]string{secondID}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(DoomedIDs(im.root), []string{secondID}) {
		t.Error("the wrong image is marked")
	}
	if all, err := im.List(); err != nil || len(all) != 1 || all[0].ID != firstID {
		t.Errorf("listed are %v, %v", all, err)
	}
	if err := im.Rename(firstID, []string{"localhost/b:1"}, nil); err != nil {
		t.Error(err)
	}
}

// What a name meant before is found however often it was rolled back.
func TestPrevious(t *testing.T) {
	for _, c := range []struct{ log, want string }{
		{"", ""}, {"a", ""}, {"a b", "a"}, {"a a", ""}, {"a b a", "b"}, {"a b -", "b"}, {"a -", "a"}, {"- a", ""},
		{"a b c ra", ""}, {"a b c rb", "a"}, {"a b c rb d", "b"}, {"a b rx", "b"},
	} {
		var log []LogEntry
		for word := range strings.FieldsSeq(c.log) {
			e := LogEntry{Time: time.Now(), Name: "n", ID: word, Verb: "tag"}
			if word[0] == 'r' {
				e.ID, e.Verb = word[1:], VerbRollback
			}
			if word == "-" {
				e.ID = ""
			}
			log = append(log, e)
		}
		if got := Previous(log).ID; got != c.want {
			t.Errorf("%q: %q; want %q", c.log, got, c.want)
		}
	}
}

// The log outlives lines that were cut short, and knows names as users write them.
func TestLog(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "images"), 0o700); err != nil {
		t.Fatal(err)
	}
	add := func(name, id string) {
		if err := AppendLog(root, LogEntry{Time: time.Now(), Name: name, ID: id, Verb: "tag"}); err != nil {
			t.Fatal(err)
		}
	}
	add("localhost/a:latest", firstID)
	f, err := os.OpenFile(logPath(root), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("\n{\"Time\":\"20")
	f.Close()
	add("quay.io/x/a:2", secondID)
	im := Open(root)
	if all, err := im.Log(""); err != nil || len(all) != 2 || all[1].ID != secondID {
		t.Errorf("the log is %v, %v", all, err)
	}
	for short, want := range map[string]string{"a": "localhost/a:latest", "x/a:2": "quay.io/x/a:2", "a:2": "quay.io/x/a:2", "quay.io/x/a:2": "quay.io/x/a:2", "b": ""} {
		if got, err := im.LogName(short); got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", short, got, err)
		}
	}
}
