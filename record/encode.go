package record

import (
	"encoding"
	"encoding/base64"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Encode returns v as JSON. Maps are in the order of their keys. Floating-point
// numbers that JSON has no word for, channels and functions are errors.
func Encode(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 1024), reflect.ValueOf(v))
}

// appendValue appends one value; an invalid one is null.
func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if v.Kind() == reflect.Pointer {
			if out, done, err := appendOwn(b, v, ownOfPointer(v.Type())); done {
				return out, err
			}
		}
		return appendValue(b, v.Elem())
	}
	t := v.Type()
	s := shapeOf(t)
	if out, done, err := appendOwn(b, v, s.own); done {
		return out, err
	}
	switch v.Kind() {
	case reflect.String:
		return AppendString(b, v.String()), nil
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		f := v.Float()
		if math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, fmt.Errorf("cannot encode %v", f)
		}
		return strconv.AppendFloat(b, f, 'g', -1, t.Bits()), nil
	case reflect.Struct:
		return appendStruct(b, v, s.fields)
	case reflect.Map:
		return appendMap(b, v)
	case reflect.Slice:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		if t.Elem().Kind() == reflect.Uint8 {
			b = append(b, '"')
			b = base64.StdEncoding.AppendEncode(b, v.Bytes())
			return append(b, '"'), nil
		}
		return appendList(b, v)
	case reflect.Array:
		return appendList(b, v)
	}
	return nil, fmt.Errorf("cannot encode a value of type %v", t)
}

// ownOfPointer says whether the type behind a pointer encodes itself by methods of
// the pointer: those of the type itself are found after it is followed.
func ownOfPointer(p reflect.Type) own {
	if p.Elem().Name() == "" || p.NumMethod() == 0 {
		return own{}
	}
	if e := shapeOf(p.Elem()); e.marshalJSON || e.marshalText {
		return own{}
	}
	return own{marshalJSON: p.Implements(marshalJSON), marshalText: p.Implements(marshalText)}
}

// appendOwn lets a type encode itself, if it can.
func appendOwn(b []byte, v reflect.Value, o own) (out []byte, done bool, err error) {
	switch {
	case o.marshalJSON:
		data, err := v.Interface().(jsonMarshaler).MarshalJSON()
		return append(b, data...), true, err
	case o.marshalText:
		text, err := v.Interface().(encoding.TextMarshaler).MarshalText()
		return AppendString(b, string(text)), true, err
	}
	return b, false, nil
}

func appendStruct(b []byte, v reflect.Value, fields []field) (_ []byte, err error) {
	b = append(b, '{')
	first := true
	for i := range fields {
		f := &fields[i]
		value := v.Field(f.index[0])
		for _, n := range f.index[1:] {
			value = value.Field(n)
		}
		if f.omitEmpty && isEmpty(value) || f.omitZero && isZero(value) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(AppendString(b, f.name), ':')
		if b, err = appendValue(b, value); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return append(b, '}'), nil
}

// isEmpty is what omitempty means: a struct never is.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// isZero is what omitzero means: a type may have its own idea of it.
func isZero(v reflect.Value) bool {
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
		return v.Kind() == reflect.Pointer && v.IsNil() || z.IsZero()
	}
	return v.IsZero()
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendMap(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	type entry struct {
		key   string
		value reflect.Value
	}
	entries := make([]entry, 0, v.Len())
	for it := v.MapRange(); it.Next(); {
		key, err := keyText(it.Key())
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{key, it.Value()})
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.key < b.key {
			return -1
		}
		return 1
	})
	b = append(b, '{')
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(AppendString(b, e.key), ':')
		if b, err = appendValue(b, e.value); err != nil {
			return nil, fmt.Errorf("%s: %w", e.key, err)
		}
	}
	return append(b, '}'), nil
}

func keyText(k reflect.Value) (string, error) {
	switch {
	case k.Kind() == reflect.String:
		return k.String(), nil
	case shapeOf(k.Type()).marshalText:
		text, err := k.Interface().(encoding.TextMarshaler).MarshalText()
		return string(text), err
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10), nil
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10), nil
	}
	return "", fmt.Errorf("cannot encode a map with keys of type %v", k.Type())
}

const hexDigits = "0123456789abcdef"

// AppendString appends a string literal; see RFC 8259, section 7. What is not
// UTF-8 becomes U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, s[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			b = append(b, `\ufffd`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\r':
			b = append(b, `\r`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
