package record

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// The interfaces by which a type says that it knows better; see encoding/json.
type (
	jsonMarshaler   interface{ MarshalJSON() ([]byte, error) }
	jsonUnmarshaler interface{ UnmarshalJSON([]byte) error }
)

// own says by which of them a type encodes and decodes itself.
type own struct{ marshalJSON, marshalText, unmarshalJSON, unmarshalText bool }

// shape is what has been found out about a type.
type shape struct {
	own
	fields []field // of a struct
}

// field is one field of a struct as it is in JSON.
type field struct {
	name      string
	index     []int
	omitEmpty bool
	omitZero  bool
}

var (
	shapesLock sync.Mutex
	shapes     = map[reflect.Type]*shape{}

	marshalJSON   = reflect.TypeFor[jsonMarshaler]()
	marshalText   = reflect.TypeFor[encoding.TextMarshaler]()
	unmarshalJSON = reflect.TypeFor[jsonUnmarshaler]()
	unmarshalText = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// plain types have no methods and no fields: most values are of these.
var (
	plain      shape
	plainTypes = []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[bool](), reflect.TypeFor[int](), reflect.TypeFor[[]string]()}
)

// shapeOf looks at one type, and at none below it.
func shapeOf(t reflect.Type) *shape {
	for _, p := range plainTypes {
		if t == p {
			return &plain
		}
	}
	shapesLock.Lock()
	defer shapesLock.Unlock()
	s := shapes[t]
	if s == nil {
		s = new(shape)
		if t.Name() != "" && t.PkgPath() != "" { // others have no methods
			s.own = ownOf(t)
		}
		if t.Kind() == reflect.Struct {
			s.fields = fieldsOf(t, nil)
		}
		shapes[t] = s
	}
	return s
}

func ownOf(t reflect.Type) (o own) {
	if t.NumMethod() > 0 {
		o.marshalJSON, o.marshalText = t.Implements(marshalJSON), t.Implements(marshalText)
	}
	if p := reflect.PointerTo(t); p.NumMethod() > 0 {
		o.unmarshalJSON, o.unmarshalText = p.Implements(unmarshalJSON), p.Implements(unmarshalText)
	}
	return o
}

// fieldsOf lists the fields of a struct, those of embedded structs after its own:
// the first of a name is the one that counts.
func fieldsOf(t reflect.Type, at []int) []field {
	var out, embedded []field
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("json")
		name, options, _ := strings.Cut(tag, ",")
		if tag == "-" {
			continue
		}
		index := append(at[:len(at):len(at)], i)
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			embedded = append(embedded, fieldsOf(f.Type, index)...)
			continue
		}
		if !f.IsExported() {
			continue
		}
		if !tagged || name == "" {
			name = f.Name
		}
		out = append(out, field{
			name: name, index: index,
			omitEmpty: has(options, "omitempty"), omitZero: has(options, "omitzero"),
		})
	}
	for _, e := range embedded {
		if !slices.ContainsFunc(out, func(f field) bool { return f.name == e.name }) {
			out = append(out, e)
		}
	}
	return out
}

func has(options, want string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == want {
			return true
		}
	}
	return false
}

// find finds a field by its name; as in encoding/json, another case will do.
func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	for i := range fields {
		if strings.EqualFold(fields[i].name, name) {
			return &fields[i]
		}
	}
	return nil
}
