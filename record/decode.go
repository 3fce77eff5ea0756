package record

import (
	"encoding"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds how deep values lie in each other.
const maxDepth = 1000

// Decode reads JSON into what v points to. As with encoding/json, unknown names
// are passed over, null leaves what it meets as it is or sets it to nil, and what
// v holds already is written over field by field.
func Decode(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return errors.New("cannot decode into what is not a pointer")
	}
	d := decoder{data: data}
	if err := d.value(p.Elem()); err != nil {
		return err
	}
	if d.space(); d.at < len(d.data) {
		return d.unexpected()
	}
	return nil
}

type decoder struct {
	data  []byte
	at    int
	depth int
}

func (d *decoder) space() byte {
	for d.at < len(d.data) {
		switch c := d.data[d.at]; c {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return c
		}
	}
	return 0
}

func (d *decoder) unexpected() error {
	if d.at >= len(d.data) {
		return errors.New("unexpected end of JSON")
	}
	return fmt.Errorf("unexpected %q at byte %d of JSON", d.data[d.at], d.at)
}

// accept takes one byte, if it is next.
func (d *decoder) accept(c byte) bool {
	if d.space() == c && d.at < len(d.data) {
		d.at++
		return true
	}
	return false
}

func (d *decoder) word(w string) error {
	if len(d.data)-d.at < len(w) || string(d.data[d.at:d.at+len(w)]) != w {
		return d.unexpected()
	}
	d.at += len(w)
	return nil
}

// value reads one value into v.
func (d *decoder) value(v reflect.Value) error {
	c := d.space()
	if c == 'n' {
		if err := d.word("null"); err != nil {
			return err
		}
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
			if !shapeOf(v.Type()).unmarshalJSON {
				v.SetZero()
				return nil
			}
		}
		if s := shapeOf(v.Type()); s.unmarshalJSON {
			return v.Addr().Interface().(jsonUnmarshaler).UnmarshalJSON([]byte("null"))
		}
		return nil
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem())
	}
	if v.Kind() == reflect.Interface {
		if v.NumMethod() > 0 {
			return fmt.Errorf("cannot decode into type %v", v.Type())
		}
		a, err := d.any()
		if err == nil {
			v.Set(reflect.ValueOf(&a).Elem())
		}
		return err
	}
	s := shapeOf(v.Type())
	if s.unmarshalJSON {
		start := d.at
		if err := d.skip(); err != nil {
			return err
		}
		return v.Addr().Interface().(jsonUnmarshaler).UnmarshalJSON(d.data[start:d.at])
	}
	if s.unmarshalText && c == '"' {
		text, err := d.text()
		if err != nil {
			return err
		}
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	switch c {
	case '{':
		return d.object(v, s)
	case '[':
		return d.list(v)
	case '"':
		return d.stringInto(v)
	case 't', 'f':
		b, err := d.bool()
		if err != nil {
			return err
		}
		if v.Kind() != reflect.Bool {
			return mismatch("a boolean", v)
		}
		v.SetBool(b)
		return nil
	}
	return d.number(v)
}

func mismatch(what string, v reflect.Value) error {
	return fmt.Errorf("cannot decode %s into type %v", what, v.Type())
}

func (d *decoder) bool() (bool, error) {
	if d.data[d.at] == 't' {
		return true, d.word("true")
	}
	return false, d.word("false")
}

// each calls do at each element between the brackets, with its name in an object.
func (d *decoder) each(end byte, named bool, do func(name string) error) error {
	if d.depth++; d.depth > maxDepth {
		return errors.New("the JSON is nested too deeply")
	}
	defer func() { d.depth-- }()
	d.at++
	if d.accept(end) {
		return nil
	}
	for {
		name := ""
		if named {
			if d.space() != '"' {
				return d.unexpected()
			}
			var err error
			if name, err = d.text(); err != nil {
				return err
			}
			if !d.accept(':') {
				return d.unexpected()
			}
		}
		if err := do(name); err != nil {
			return err
		}
		if d.accept(end) {
			return nil
		}
		if !d.accept(',') {
			return d.unexpected()
		}
	}
}

func (d *decoder) object(v reflect.Value, s *shape) error {
	switch v.Kind() {
	case reflect.Struct:
		return d.each('}', true, func(name string) error {
			f := find(s.fields, name)
			if f == nil {
				d.space()
				return d.skip()
			}
			if err := d.value(v.FieldByIndex(f.index)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	case reflect.Map:
		t := v.Type()
		if v.IsNil() {
			v.Set(reflect.MakeMap(t))
		}
		return d.each('}', true, func(name string) error {
			key, err := keyOf(t.Key(), name)
			if err != nil {
				return err
			}
			value := reflect.New(t.Elem()).Elem()
			if err := d.value(value); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			v.SetMapIndex(key, value)
			return nil
		})
	}
	return mismatch("an object", v)
}

func keyOf(t reflect.Type, name string) (reflect.Value, error) {
	k := reflect.New(t).Elem()
	switch {
	case t.Kind() == reflect.String:
		k.SetString(name)
		return k, nil
	case shapeOf(t).unmarshalText:
		return k, k.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(name))
	case k.CanInt():
		n, err := strconv.ParseInt(name, 10, t.Bits())
		k.SetInt(n)
		return k, err
	case k.CanUint():
		n, err := strconv.ParseUint(name, 10, t.Bits())
		k.SetUint(n)
		return k, err
	}
	return k, fmt.Errorf("cannot decode a map with keys of type %v", t)
}

func (d *decoder) list(v reflect.Value) error {
	switch v.Kind() {
	case reflect.Slice:
		n := 0
		err := d.each(']', false, func(string) error {
			if n == v.Cap() {
				v.Grow(1)
			}
			v.SetLen(n + 1)
			v.Index(n).SetZero()
			n++
			return d.value(v.Index(n - 1))
		})
		if n == 0 {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
			return err
		}
		v.SetLen(n)
		return err
	case reflect.Array:
		n := 0
		err := d.each(']', false, func(string) error {
			if n++; n > v.Len() {
				d.space()
				return d.skip()
			}
			return d.value(v.Index(n - 1))
		})
		for ; n < v.Len(); n++ {
			v.Index(n).SetZero()
		}
		return err
	}
	return mismatch("a list", v)
}

func (d *decoder) stringInto(v reflect.Value) error {
	text, err := d.text()
	if err != nil {
		return err
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		v.SetBytes(data)
	default:
		return mismatch("a string", v)
	}
	return nil
}

// literal takes a number's text; its form is checked as RFC 8259 has it.
func (d *decoder) literal() (string, error) {
	start := d.at
	digits := func() bool {
		from := d.at
		for d.at < len(d.data) && d.data[d.at] >= '0' && d.data[d.at] <= '9' {
			d.at++
		}
		return d.at > from
	}
	is := func(set string) bool {
		for i := range len(set) {
			if d.at < len(d.data) && d.data[d.at] == set[i] {
				d.at++
				return true
			}
		}
		return false
	}
	is("-")
	if !is("0") && !digits() {
		return "", d.unexpected()
	}
	if is(".") && !digits() {
		return "", d.unexpected()
	}
	if is("eE") {
		is("+-")
		if !digits() {
			return "", d.unexpected()
		}
	}
	return string(d.data[start:d.at]), nil
}

func (d *decoder) number(v reflect.Value) error {
	text, err := d.literal()
	if err != nil {
		return err
	}
	switch {
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return mismatch("number "+text, v)
		}
		v.SetInt(n)
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return mismatch("number "+text, v)
		}
		v.SetUint(n)
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return mismatch("number "+text, v)
		}
		v.SetFloat(n)
	default:
		return mismatch("a number", v)
	}
	return nil
}

// text reads a string literal.
func (d *decoder) text() (string, error) {
	d.at++
	start := d.at
	for d.at < len(d.data) {
		c := d.data[d.at]
		if c == '"' && utf8.Valid(d.data[start:d.at]) {
			d.at++
			return string(d.data[start : d.at-1]), nil
		}
		if c == '"' || c == '\\' || c < ' ' {
			break
		}
		d.at++
	}
	out := append([]byte(nil), d.data[start:d.at]...)
	for d.at < len(d.data) {
		c := d.data[d.at]
		switch {
		case c == '"':
			d.at++
			return string([]rune(string(out))), nil // what is not UTF-8 becomes U+FFFD
		case c < ' ':
			return "", d.unexpected()
		case c != '\\':
			out = append(out, c)
			d.at++
			continue
		}
		r, err := d.escape()
		if err != nil {
			return "", err
		}
		out = utf8.AppendRune(out, r)
	}
	return "", d.unexpected()
}

func (d *decoder) escape() (rune, error) {
	if d.at+1 >= len(d.data) {
		d.at = len(d.data)
		return 0, d.unexpected()
	}
	c := d.data[d.at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r := d.hex(d.at)
		if r < 0 {
			return 0, d.unexpected()
		}
		d.at += 6
		if utf16.IsSurrogate(r) {
			if pair := utf16.DecodeRune(r, d.hex(d.at)); pair != utf8.RuneError {
				d.at += 6
				return pair, nil
			}
			return utf8.RuneError, nil
		}
		return r, nil
	default:
		return 0, d.unexpected()
	}
	d.at += 2
	return rune(c), nil
}

// hex reads the escape \uXXXX at a place; -1 if there is none.
func (d *decoder) hex(at int) rune {
	if at+6 > len(d.data) || d.data[at] != '\\' || d.data[at+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(d.data[at+2:at+6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}

// skip passes over one value, which begins here.
func (d *decoder) skip() error {
	if d.at >= len(d.data) {
		return d.unexpected()
	}
	pass := func(string) error { d.space(); return d.skip() }
	switch d.data[d.at] {
	case '{':
		return d.each('}', true, pass)
	case '[':
		return d.each(']', false, pass)
	case '"':
		_, err := d.text()
		return err
	case 't', 'f':
		_, err := d.bool()
		return err
	case 'n':
		return d.word("null")
	}
	_, err := d.literal()
	return err
}

// any reads a value as encoding/json does into an empty interface.
func (d *decoder) any() (any, error) {
	switch c := d.space(); c {
	case '{':
		m := map[string]any{}
		return m, d.each('}', true, func(name string) (err error) {
			m[name], err = d.any()
			return err
		})
	case '[':
		list := []any{}
		err := d.each(']', false, func(string) error {
			v, err := d.any()
			list = append(list, v)
			return err
		})
		return list, err
	case '"':
		return d.text()
	case 't', 'f':
		return d.bool()
	case 'n':
		return nil, d.word("null")
	}
	text, err := d.literal()
	if err != nil {
		return nil, err
	}
	return strconv.ParseFloat(text, 64)
}
