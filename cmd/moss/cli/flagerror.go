package cli

import (
	"fmt"
	"reflect"
	"strings"
)

// flagError says which flag was given which wrong value, and what is wrong with it.
type flagError struct {
	Flag  string // "-p, --publish"
	Value string
	Err   error
}

func (e *flagError) Error() string {
	return fmt.Sprintf("invalid value %q for flag %s: %v", e.Value, e.Flag, e.Err)
}
func (e *flagError) Unwrap() error { return e.Err }

// usageError is a wrong combination of flags or arguments.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// flagValues reads flag values one after the other and keeps the first error.
type flagValues struct {
	grammar reflect.Type // the struct whose tags name the flags
	err     error
}

// one reads the value of a flag that was given.
func (v *flagValues) one(name, value string, read func(string) error) {
	if v.err != nil || value == "" {
		return
	}
	if err := read(value); err != nil {
		v.err = &flagError{Flag: flagName(v.grammar, name), Value: value, Err: err}
	}
}

// each reads the values of a flag that may be repeated.
func (v *flagValues) each(name string, values []string, read func(string) error) {
	for _, value := range values {
		if value == "" && v.err == nil {
			v.err = &flagError{Flag: flagName(v.grammar, name), Err: fmt.Errorf("it is empty")}
		}
		v.one(name, value, read)
	}
}

// check refuses a combination.
func (v *flagValues) check(wrong bool, format string, args ...any) {
	if wrong && v.err == nil {
		v.err = usagef(format, args...)
	}
}

// flagName is how a flag is named in messages: "-p, --publish".
func flagName(grammar reflect.Type, name string) string {
	for _, field := range leafFields(grammar) {
		if longName(field.StructField) == name {
			if short := field.Tag.Get("short"); short != "" {
				return "-" + short + ", --" + name
			}
		}
	}
	return "--" + name
}

// longName is the name of the flag of a field, as kong derives it.
func longName(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	var b strings.Builder
	for i, r := range f.Name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}
