package format

import (
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"text/template/parse"
)

// Check says which field of a template no value of a type has. Executing it says so
// too, but only where there is a value: a mistyped name is one on a host without containers.
func Check(tmpl *template.Template, value reflect.Type) error {
	c := checker{root: value}
	if tmpl.Tree != nil {
		c.list(tmpl.Tree.Root, value)
	}
	return c.err
}

// Suits is Check of a --format as Print takes it, for a command that does something before it
// prints.
func Suits(format string, row reflect.Type) error {
	if format == "" || format == "table" || format == "json" {
		return nil
	}
	tmpl, err := Parse(strings.TrimPrefix(format, "table "))
	if err == nil {
		err = Check(tmpl, row)
	}
	return err
}

// checker walks a template. A type that only an execution knows is nil.
type checker struct {
	root reflect.Type
	err  error // the first
}

func (c *checker) list(l *parse.ListNode, dot reflect.Type) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			c.pipe(n.Pipe, dot)
		case *parse.TemplateNode:
			c.pipe(n.Pipe, dot)
		case *parse.IfNode:
			c.branch(&n.BranchNode, dot, dot)
		case *parse.WithNode:
			c.branch(&n.BranchNode, dot, nil)
		case *parse.RangeNode:
			c.branch(&n.BranchNode, dot, nil)
		}
	}
}

// branch: inside is the dot of what is done if there is something.
func (c *checker) branch(b *parse.BranchNode, dot, inside reflect.Type) {
	c.pipe(b.Pipe, dot)
	c.list(b.List, inside)
	c.list(b.ElseList, dot)
}

func (c *checker) pipe(p *parse.PipeNode, dot reflect.Type) {
	if p == nil {
		return
	}
	for _, cmd := range p.Cmds {
		for _, arg := range cmd.Args {
			c.argument(arg, dot)
		}
	}
}

func (c *checker) argument(n parse.Node, dot reflect.Type) {
	switch n := n.(type) {
	case *parse.PipeNode:
		c.pipe(n, dot)
	case *parse.ChainNode: // of what a function returns
		c.argument(n.Node, dot)
	case *parse.FieldNode:
		c.fields(n, n.Ident, dot)
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			c.fields(n, n.Ident[1:], c.root)
		}
	}
}

// fields follows names, for as long as it is known what they are of.
func (c *checker) fields(n parse.Node, names []string, t reflect.Type) {
	for _, name := range names {
		if t == nil || c.err != nil {
			return
		}
		next, ok := field(t, name)
		if !ok {
			c.err = &Error{"", fmt.Sprintf("<%s>: can't evaluate field %s in type %s", n, name, t)}
			return
		}
		t = next
	}
}

// field is the type of a method or a field, as text/template finds them; nil: not known.
func field(t reflect.Type, name string) (of reflect.Type, ok bool) {
	if m, ok := t.MethodByName(name); ok && m.Type.NumOut() > 0 {
		return m.Type.Out(0), true
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Interface:
		return nil, true
	case reflect.Map:
		return t.Elem(), true
	case reflect.Struct:
		f, ok := t.FieldByName(name)
		return f.Type, ok && f.IsExported()
	}
	return nil, false
}
