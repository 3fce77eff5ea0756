package format

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

type checked struct {
	row
	State  *struct{ Status string }
	Labels map[string]string
	Any    any
	When   time.Time
}

func (checked) Inner() row          { return row{} }
func (checked) Label(string) string { return "" }

// What no row could show is an error without a row; what one could show is none.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ template, nope string }{
		{"{{.Name}} {{.ID}} {{.State.Status}} {{.Inner.Name}} {{.Any.Thing}} {{.Labels.x}} {{.Label \"x\"}}", ""},
		{"{{range .List}}{{.}}{{.Nope}}{{else}}{{.N}}{{end}}{{with .State}}{{.Status}}{{end}}", ""},
		{"{{$n := .Name}}{{$n}} {{(index .List 0).Nope}} {{len .List | printf \"%d\"}} {{$.Name}}", ""},
		{"{{.Nope}}", "Nope"},
		{"{{.When.wall}}", "wall"},
		{"{{.State.Nope}}", "Nope"},
		{"{{.Name.Nope}}", "Nope"},
		{"{{.Inner.Nope}}", "Nope"},
		{"{{if .Name}}{{else}}{{.Nope}}{{end}}", "Nope"},
		{"{{range .List}}{{$.Nope}}{{end}}", "Nope"},
		{"{{range .List}}{{else}}{{.Nope}}{{end}}", "Nope"},
		{"{{with .State}}{{else}}{{.Nope}}{{end}}", "Nope"},
		{"{{len (join .Nope \",\")}}", "Nope"},
		{"{{$n := .Nope}}", "Nope"},
		{"{{.Name | printf \"%s%s\" .Nope}}", "Nope"},
	} {
		tmpl, err := Parse(c.template)
		if err != nil {
			t.Fatal(err)
		}
		err = Check(tmpl, reflect.TypeFor[checked]())
		if (err == nil) != (c.nope == "") || err != nil && !strings.Contains(err.Error(), "can't evaluate field "+c.nope+" in type ") {
			t.Errorf("%s: %v", c.template, err)
		}
	}
	table := Table{Columns: []Column{{"NAME", ".Name"}}}
	for _, bad := range []string{"{{.Nope}}", "table {{.Nope}}"} {
		var b bytes.Buffer
		if err := table.Print(&b, bad, []row{}, nil); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, and says %q", bad, err, b.String())
		}
	}
	for _, good := range []string{"", "{{.ID}}", "table {{upper .Name}}"} {
		if err := table.Print(&bytes.Buffer{}, good, []row{}, nil); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}
