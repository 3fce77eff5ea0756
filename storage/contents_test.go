package storage

import (
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// TestTOCBomb: a list that takes hundreds of bytes for each three that it has is not read.
func TestTOCBomb(t *testing.T) {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for list, want := range map[string]string{
		`{"version":1,"entries":[{"type":"reg","name":"a"}]}`:            "",
		`{"version":1,"entries":[{}` + strings.Repeat(",{}", 5e6) + `]}`: "more than 100000 objects",
		strings.Repeat(" ", MaxTOC+1):                                    "larger than 16 MiB",
	} {
		toc, err := ParseTOC(w.EncodeAll([]byte(list), nil))
		if want == "" && (err != nil || len(toc.Entries) != 1) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.40s: %v", list, err)
		}
	}
}
