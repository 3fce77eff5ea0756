package completions

import (
	"testing"

	"moss/systemd/quadlet"
)

// TestUnitKeys: the manual says of every key what it does.
func TestUnitKeys(t *testing.T) {
	for _, s := range quadlet.Sections() {
		for _, k := range s.Keys {
			if UnitKeyText(s.Name, k) == "" {
				t.Errorf("[%s] %s: nothing is said of it", s.Name, k.Name)
			}
		}
	}
}
