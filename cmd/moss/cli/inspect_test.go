package cli

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Whatever podman's inspect and ps --format json show, moss's show too, with the same type.
func TestFieldsArePodmans(t *testing.T) {
	data, err := os.ReadFile("../../../test/compat/inspect.txt")
	if err != nil {
		t.Fatal(err)
	}
	views := map[string]reflect.Type{
		"container": reflect.TypeFor[containerView](), "image": reflect.TypeFor[imageView](), "volume": reflect.TypeFor[volumeView](),
		"network": reflect.TypeFor[networkView](), "ps": reflect.TypeFor[psJSON](),
	}
	kind, fields := "", map[string]string{}
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || line[0] == '#':
		case len(words) == 1:
			kind, fields = words[0], map[string]string{}
			jsonTypes(views[kind], "", fields)
		case fields[words[0]] != words[1]:
			t.Errorf("%s: %s is %q, podman's is %q", kind, words[0], fields[words[0]], words[1])
		}
	}
}

// jsonTypes says what each field of a struct is in JSON: ".State.Pid" is a number.
func jsonTypes(v reflect.Type, path string, out map[string]string) {
	if v.Kind() == reflect.Pointer {
		jsonTypes(v.Elem(), path, out)
		return
	}
	isScalar := v == reflect.TypeFor[time.Time]() || v.Implements(reflect.TypeFor[json.Marshaler]())
	switch {
	case v.Kind() == reflect.String || isScalar:
		out[path] = "string"
	case v.Kind() == reflect.Bool:
		out[path] = "bool"
	case v.Kind() >= reflect.Int && v.Kind() <= reflect.Float64:
		out[path] = "number"
	case v.Kind() == reflect.Slice:
		out[path] = "array"
		if v.Elem().Kind() == reflect.Struct {
			jsonTypes(v.Elem(), path+"[]", out)
		}
	case v.Kind() == reflect.Map:
		out[path] = "object"
		if v.Elem().Kind() == reflect.Struct {
			jsonTypes(v.Elem(), path+".*", out)
		}
	case v.Kind() == reflect.Struct:
		out[path] = "object"
		for _, f := range reflect.VisibleFields(v) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if f.IsExported() && !f.Anonymous && name != "-" {
				jsonTypes(f.Type, path+"."+or(name, f.Name), out)
			}
		}
	}
}

// A template that names a field that is not there is an error, at every depth.
func TestFieldsExist(t *testing.T) {
	v := map[string]any{"Id": "x", "State": map[string]any{"Status": "running"}}
	for tmpl, want := range map[string]bool{
		"{{.Id}}": true, "{{.State.Status}}": true, "{{json .State}} {{.Id}}": true, "{{.}}": true, "{{.Name}}": false,
		"{{.State.Nonsense}}": false, "{{.Id.Nonsense}}": false, "{{if .Nope}}{{.Id}}{{end}}": false,
	} {
		if got := fieldsExist(v, tmpl); got != want {
			t.Errorf("%s: %v", tmpl, got)
		}
	}
}
