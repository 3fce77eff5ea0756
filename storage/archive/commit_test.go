package archive

import (
	"strings"
	"testing"

	"moss/storage/image"
	"moss/storage/storagetest"
)

// A layer whose stream was cut makes no image: its writer was killed.
func TestCommitCut(t *testing.T) {
	store, _ := storagetest.Open(t)
	id, err := Import(store, write(t, makeTar(t, file("bin/x", "x"))), ImportOptions{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	base := storagetest.Images(t, store)[0]
	layer := append(makeTar(t, file("a", strings.Repeat("\x00", 4096)), file("b", "text")), image.StreamEnd...)
	for _, n := range []int{0, 512, 2048, 4608, 5120, len(layer) - len(image.StreamEnd), len(layer) - 1} {
		if got, err := Commit(store, base, write(t, layer[:n]), "", &image.CommitRequest{Base: id}, quiet); err == nil {
			t.Errorf("%d bytes of %d have become image %s", n, len(layer), got)
		}
	}
	if _, err := Commit(store, base, write(t, layer), "localhost/new", &image.CommitRequest{Base: id}, quiet); err != nil {
		t.Error(err)
	}
	if all := storagetest.Images(t, store); len(all) != 2 {
		t.Errorf("the store has %d images", len(all))
	}
}
