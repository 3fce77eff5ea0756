package format

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/token"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// Column is one of a table's: its header and the template of its cells.
type Column struct{ Header, Cell string }

// Table is how a command lists rows.
type Table struct {
	Columns []Column // what is shown without --format
	// Headers are those of fields that a "table" template may show beside Columns.
	Headers   map[string]string
	NoHeading bool
}

// Print writes rows, a slice of structs, as --format says: "" is the table,
// "table TEMPLATE" a table of other columns, "json" is asJSON, and anything else
// a template for each row.
func (t Table) Print(w io.Writer, format string, rows, asJSON any) error {
	if format == "json" {
		return JSON(w, asJSON)
	}
	plainTable := format == "" || format == "table"
	if plainTable {
		format = "table " + t.template()
	}
	body, isTable := strings.CutPrefix(format, "table ")
	write := func(w io.Writer) error { return t.plain(w, rows) }
	if !plainTable || !t.isPlain() {
		tmpl, err := Parse(body)
		if err == nil && reflect.ValueOf(rows).Len() == 0 { // else each row says it
			err = Check(tmpl, reflect.TypeOf(rows).Elem())
		}
		if err != nil {
			return err
		}
		write = func(w io.Writer) error { return each(w, tmpl, rows) }
	}
	out := bufio.NewWriter(w) // the tabwriter hands on each cell by itself
	if !isTable {
		return errors.Join(write(out), out.Flush())
	}
	// Column widths as podman's: at least 12 with two spaces between.
	aligned := tabwriter.NewWriter(out, 12, 2, 2, ' ', 0)
	if !t.NoHeading {
		fmt.Fprintln(aligned, t.heading(body))
	}
	if err := write(aligned); err != nil {
		return err
	}
	return errors.Join(aligned.Flush(), out.Flush())
}

// isPlain says whether every cell is the name of a field or a method.
func (t Table) isPlain() bool {
	return !slices.ContainsFunc(t.Columns, func(c Column) bool {
		name, ok := strings.CutPrefix(c.Cell, ".")
		return !ok || !token.IsIdentifier(name)
	})
}

// plain writes a table of such cells, as the template of them all would in ten
// times the time: ps is asked often, and about many.
func (t Table) plain(w io.Writer, rows any) error {
	list := reflect.ValueOf(rows)
	row := list.Type().Elem()
	cells := make([]func(reflect.Value) any, len(t.Columns))
	for i, c := range t.Columns {
		name := c.Cell[1:]
		if m, ok := row.MethodByName(name); ok && m.Type.NumIn() == 1 && m.Type.NumOut() == 1 {
			cells[i] = func(v reflect.Value) any { return v.Method(m.Index).Call(nil)[0].Interface() }
			continue
		}
		if row.Kind() != reflect.Struct {
			return &Error{c.Cell, fmt.Sprintf("there is no method %q", name)}
		}
		f, ok := row.FieldByName(name)
		if !ok {
			return &Error{c.Cell, fmt.Sprintf("there is no field %q", name)}
		}
		cells[i] = func(v reflect.Value) any { return v.FieldByIndex(f.Index).Interface() }
	}
	for i := range list.Len() {
		for n, cell := range cells {
			if n > 0 {
				io.WriteString(w, "\t")
			}
			fmt.Fprint(w, cell(list.Index(i)))
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}

func (t Table) template() string {
	cells := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		cells[i] = "{{" + c.Cell + "}}"
	}
	return strings.Join(cells, "\t")
}

// heading makes the first line of a table: each action of the template gives way
// to the header of the field that it shows.
func (t Table) heading(body string) string {
	headers := map[string]string{}
	for field, header := range t.Headers {
		headers["."+field] = header
	}
	for _, c := range t.Columns {
		headers[c.Cell] = c.Header
	}
	var out strings.Builder
	body = unescape(body)
	for {
		before, rest, ok := strings.Cut(body, "{{")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		action, after, _ := strings.Cut(rest, "}}")
		out.WriteString(header(strings.TrimSpace(action), headers))
		body = after
	}
}

func header(action string, headers map[string]string) string {
	if h, ok := headers[action]; ok {
		return h
	}
	for _, word := range strings.Fields(action) {
		if strings.HasPrefix(word, ".") {
			if h, ok := headers[word]; ok {
				return h
			}
			return strings.ToUpper(strings.TrimPrefix(word, "."))
		}
	}
	return ""
}

// each writes every row through tmpl, on a line of its own.
func each(w io.Writer, tmpl *template.Template, rows any) error {
	list := reflect.ValueOf(rows)
	for i := range list.Len() {
		if err := Execute(w, tmpl, list.Index(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

// Parse reads the template of a --format flag.
func Parse(s string) (*template.Template, error) {
	tmpl, err := template.New("--format").Funcs(functions()).Parse(unescape(s))
	if err != nil {
		return nil, &Error{s, plain(err)}
	}
	return tmpl, nil
}

// Execute writes one value through a template, and ends the line.
func Execute(w io.Writer, tmpl *template.Template, value any) error {
	var b bytes.Buffer
	if err := tmpl.Execute(&b, value); err != nil {
		return &Error{"", plain(err)}
	}
	if !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Error is a template that cannot be read or does not fit the value.
type Error struct {
	Format string
	Cause  string
}

func (e *Error) Error() string {
	if e.Format == "" {
		return "invalid value for flag --format: " + e.Cause
	}
	return fmt.Sprintf("invalid value %q for flag --format: %s", e.Format, e.Cause)
}

// plain takes the place in the template away from text/template's message.
func plain(err error) string {
	s := strings.TrimPrefix(err.Error(), "template: ")
	s = strings.TrimPrefix(s, "--format:")
	if _, after, ok := strings.Cut(s, ": executing \"--format\" at "); ok {
		s = after
	} else if _, after, ok := strings.Cut(s, ": "); ok {
		s = after
	}
	return s
}

// unescape lets \t and \n be written in a shell's single quotes.
func unescape(s string) string {
	return strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(s)
}

// JSON writes v indented by four spaces, as podman does.
func JSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	return e.Encode(v)
}

// functions are podman's and Docker's beside those of text/template.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  compact,
		"join":  join,
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
		"title": title,
		"split": func(s, sep string) []string { return strings.Split(s, sep) },
		"pad": func(s string, before, after int) string {
			if s == "" {
				return s
			}
			return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
		},
		"truncate": func(s string, n int) string {
			if runes := []rune(s); len(runes) > n {
				return string(runes[:n])
			}
			return s
		},
	}
}

func compact(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSpace(b.String()), err
}

// join takes the list first, as strings.Join does, and any list.
func join(list any, sep string) (string, error) {
	v := reflect.ValueOf(list)
	if v.Kind() != reflect.Slice && v.Kind() != reflect.Array {
		return "", fmt.Errorf("join wants a list, not %T", list)
	}
	words := make([]string, v.Len())
	for i := range words {
		words[i] = fmt.Sprint(v.Index(i).Interface())
	}
	return strings.Join(words, sep), nil
}

// title puts a capital at the beginning of each word.
func title(s string) string {
	words := strings.Split(s, " ")
	for i, word := range words {
		if word != "" {
			words[i] = strings.ToUpper(word[:1]) + word[1:]
		}
	}
	return strings.Join(words, " ")
}
