package limit

import (
	"encoding/json"
	"fmt"
)

// Documents of images are small, but four mebibytes of "{},{}," become hundreds in memory.
const (
	maxValues = 50_000
	maxNested = 64
)

// JSON decodes a document as encoding/json does, unless it has so many values, or they
// nest so deeply, that nobody has made it for an image.
func JSON(data []byte, v any) error {
	values, depth, quoted := 1, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == ',':
			values++
		case c == '{' || c == '[':
			values++
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if values > maxValues {
			return fmt.Errorf("it has more than %d values", maxValues)
		}
		if depth > maxNested {
			return fmt.Errorf("its values nest more than %d deep", maxNested)
		}
	}
	return json.Unmarshal(data, v)
}
