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
func JSON(data []byte, v any) error { return bounded(data, v, maxValues, maxValues) }

// Objects is JSON for a document that may have more values, but only so many objects
// and lists: those are what it takes memory for.
func Objects(data []byte, v any, most int) error { return bounded(data, v, len(data), most) }

func bounded(data []byte, v any, maxValues, maxObjects int) error {
	values, objects, depth, quoted := 1, 0, 0, false
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
			objects++
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if values > maxValues {
			return fmt.Errorf("it has more than %d values", maxValues)
		}
		if objects > maxObjects {
			return fmt.Errorf("it has more than %d objects", maxObjects)
		}
		if depth > maxNested {
			return fmt.Errorf("its values nest more than %d deep", maxNested)
		}
	}
	return json.Unmarshal(data, v)
}
