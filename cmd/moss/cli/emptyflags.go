package cli

import (
	"errors"
	"reflect"
	"slices"
	"strings"
)

// What an empty value of a flag of run and create means to podman, and so here.
const (
	// emptyIsNone: no value. It takes the place of what a file sets.
	emptyIsNone = " add-host annotation device dns dns-option dns-search env-file expose gidmap group-add label-file log-opt network publish sysctl uidmap ulimit unsetenv "
	// emptyIsWrong: the flag needs one.
	emptyIsWrong = " cpus ip ip6 mac-address runtime "
)

// dropEmpty deals with flags that are given with an empty value, which other flags
// take for not being given.
func (g *Globals) dropEmpty(f *ContainerFlags, args []string) error {
	f.given = g.given
	if !slices.ContainsFunc(args, func(a string) bool { return a == "" || strings.HasSuffix(a, "=") }) {
		return nil
	}
	whole := reflect.ValueOf(f).Elem()
	for _, field := range leafFields(whole.Type()) {
		name := longName(field.StructField)
		if !g.isGiven(name) {
			continue
		}
		v := whole.FieldByIndex(field.path)
		switch list, isList := v.Interface().([]string); {
		case isList && strings.Contains(emptyIsNone, " "+name+" "):
			v.Set(reflect.ValueOf(slices.DeleteFunc(list, func(s string) bool { return s == "" })))
		case v.Kind() == reflect.String && v.Len() == 0 && strings.Contains(emptyIsWrong, " "+name+" "):
			return &flagError{Flag: flagName(whole.Type(), name), Err: errors.New("it is empty")}
		}
	}
	return nil
}
