package format

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

type row struct {
	Name string
	N    int
	List []string
}

// ID is a method: templates see it as a field.
func (r row) ID() string { return "0123456789ab" }

func TestPrint(t *testing.T) {
	rows := []row{{"first", 1, []string{"a", "b"}}, {"a-name-longer-than-the-column", 2, nil}}
	table := Table{Columns: []Column{{"ID", ".ID"}, {"NAME", ".Name"}, {"NUMBER", ".N"}}, Headers: map[string]string{"N": "NUMBER"}}
	for _, c := range []struct {
		format, want string
	}{
		{"", "ID            NAME                           NUMBER\n0123456789ab  first                          1\n0123456789ab  a-name-longer-than-the-column  2\n"},
		{"table {{.Name}}\t{{.N}}", "NAME                           NUMBER\nfirst                          1\na-name-longer-than-the-column  2\n"},
		{`table {{upper .Name}}\t{{.List}}`, "NAME                           LIST\nFIRST                          [a b]\nA-NAME-LONGER-THAN-THE-COLUMN  []\n"},
		{`{{.Name}}\t{{.N}}`, "first\t1\na-name-longer-than-the-column\t2\n"},
		{"{{println .N}}", "1\n2\n"},
		{"{{json .List}}", "[\"a\",\"b\"]\nnull\n"},
		{"{{join .List \"+\"}}|{{len (split .Name \"-\")}}", "a+b|1\n|6\n"},
		{"{{title .Name}} {{lower .Name}} {{truncate .Name 3}}", "First first fir\nA-name-longer-than-the-column a-name-longer-than-the-column a-n\n"},
	} {
		var b bytes.Buffer
		if err := table.Print(&b, c.format, rows, rows); err != nil || b.String() != c.want {
			t.Errorf("%q:\n%s%v; want\n%s", c.format, b.String(), err, c.want)
		}
	}
	for _, bad := range []string{"{{.Nonsense}}", "{{.Name", "{{nonsense .Name}}", "{{join .N \",\"}}"} {
		if err := table.Print(&bytes.Buffer{}, bad, rows, rows); err == nil || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%q: %v; want an error that names --format", bad, err)
		}
	}
}

func TestNoHeading(t *testing.T) {
	var b bytes.Buffer
	table := Table{Columns: []Column{{"NAME", ".Name"}}, NoHeading: true}
	if err := table.Print(&b, "", []row{{Name: "x"}}, nil); err != nil || b.String() != "x\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := (Table{}).Print(&b, "json", nil, []string{"<&>"}); err != nil || b.String() != "[\n    \"<&>\"\n]\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestDuration(t *testing.T) {
	for in, want := range map[time.Duration]string{
		0: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds", time.Minute: "About a minute",
		2 * time.Minute: "2 minutes", time.Hour: "About an hour", 5 * time.Hour: "5 hours", 47 * time.Hour: "47 hours",
		72 * time.Hour: "3 days", 15 * 24 * time.Hour: "2 weeks", 90 * 24 * time.Hour: "3 months", 3 * 365 * 24 * time.Hour: "3 years",
	} {
		if got := Duration(in); got != want {
			t.Errorf("Duration(%v) = %q, want %q", in, got, want)
		}
	}
	if got := Ago(time.Time{}); got != "N/A" {
		t.Errorf("no time at all: %q", got)
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1kB", 1234: "1.23kB", 2_810_018: "2.81MB", 123_456_789: "123MB", 5_000_000_000: "5GB",
	} {
		if got := Size(in, ""); got != want {
			t.Errorf("Size(%d) = %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{"short": "short", "exactly-seventeen": "exactly-seventeen", "longer-than-seventeen": "longer-than-seven..."} {
		if got := Cut(in, 17); got != want {
			t.Errorf("Cut(%q) = %q", in, got)
		}
	}
}
