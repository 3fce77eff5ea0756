package birth

import (
	"slices"
	"testing"
)

// A line that reaches over two of the parent's ranges is cut between them.
func TestSplit(t *testing.T) {
	parent := []IDMap{{0, 1006, 1}, {1, 165536, 65536}, {65537, 400000, 65536}}
	got := split([]IDMap{{0, 1, 1006}, {1006, 0, 1}, {1007, 1007, 130066}}, parent)
	want := []IDMap{{0, 1, 1006}, {1006, 0, 1}, {1007, 1007, 64530}, {65537, 65537, 65536}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	whole := []IDMap{{0, 100000, 65536}}
	if got := split(whole, []IDMap{{0, 0, 4294967295}}); !slices.Equal(got, whole) {
		t.Errorf("%v", got)
	}
}
