// Package files reads configuration files: which there are, in which order, and
// what each line of them sets. Only a helper program links it.
package files

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"moss/config"
)

// found is what one line of a file sets.
type found struct {
	key    string
	values []value
	list   bool
	append *bool // what a list says of those before it
	at     config.Origin
}

// value is one element, and its kind in TOML.
type value struct {
	text string
	kind unstable.Kind
	at   config.Origin
}

// parse lists what a file sets, with the keys as they are in it.
func parse(path string, data []byte) ([]found, error) {
	var whole map[string]any
	if err := toml.Unmarshal(data, &whole); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, _ := at.Position()
			return nil, &config.Error{Origin: config.Origin{File: path, Line: line}, Err: errors.New(strings.TrimPrefix(at.Error(), "toml: "))}
		}
		return nil, &config.Error{Origin: config.Origin{File: path, Line: 1}, Err: err}
	}
	p := &parser{file: path}
	p.toml.Reset(data)
	for p.toml.NextExpression() {
		p.expression(p.toml.Expression())
	}
	if err := p.toml.Error(); err != nil {
		return nil, &config.Error{Origin: config.Origin{File: path, Line: 1}, Err: err}
	}
	return p.found, nil
}

type parser struct {
	toml   unstable.Parser
	file   string
	table  []string
	arrays []count // of the arrays of tables, the number of the last one
	found  []found
}

type count struct {
	name string
	n    int
}

// expression takes a table's header or a line of it.
func (p *parser) expression(e *unstable.Node) {
	key, line := p.key(e)
	switch e.Kind {
	case unstable.Table:
		p.table = p.indexed(key)
	case unstable.ArrayTable:
		p.next(strings.Join(key, "."))
		p.table = p.indexed(key)
	case unstable.KeyValue:
		p.set(slices.Concat(p.table, key), e.Value(), line)
	}
}

func (p *parser) key(e *unstable.Node) (parts []string, line int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		parts = append(parts, string(n.Data))
		if line == 0 {
			line = p.toml.Shape(n.Raw).Start.Line
		}
	}
	return parts, line
}

// next begins one more table of an array, and with it the arrays below anew.
func (p *parser) next(name string) {
	p.arrays = slices.DeleteFunc(p.arrays, func(c count) bool { return strings.HasPrefix(c.name, name+".") })
	for i := range p.arrays {
		if p.arrays[i].name == name {
			p.arrays[i].n++
			return
		}
	}
	p.arrays = append(p.arrays, count{name, 0})
}

// indexed puts the numbers into a path through arrays of tables: registry, 1, mirror, 0.
func (p *parser) indexed(key []string) []string {
	var out []string
	for i, part := range key {
		out = append(out, part)
		name := strings.Join(key[:i+1], ".")
		for _, c := range p.arrays {
			if c.name == name {
				out = append(out, strconv.Itoa(c.n))
			}
		}
	}
	return out
}

// set notes the value of a key; an inline table is as good as one with a header.
func (p *parser) set(key []string, v *unstable.Node, line int) {
	f := found{key: strings.Join(key, "."), at: config.Origin{File: p.file, Line: line}}
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			part, line := p.key(it.Node())
			p.set(slices.Concat(key, part), it.Node().Value(), line)
		}
		return
	case unstable.Array:
		f.list = true
		for it := v.Children(); it.Next(); {
			p.element(&f, it.Node())
		}
	default:
		f.values = []value{{string(v.Data), v.Kind, f.at}}
	}
	p.found = append(p.found, f)
}

// element adds one of a list: {append=true} speaks of the list, another table is
// one value, as in default_subnet_pools.
func (p *parser) element(f *found, n *unstable.Node) {
	at := f.at
	if n.Raw.Length > 0 {
		at.Line = p.toml.Shape(n.Raw).Start.Line
	}
	if n.Kind != unstable.InlineTable {
		f.values = append(f.values, value{string(n.Data), n.Kind, at})
		return
	}
	var words []string
	for it := n.Children(); it.Next(); {
		part, _ := p.key(it.Node())
		v := it.Node().Value()
		if len(part) == 1 && part[0] == "append" && v.Kind == unstable.Bool {
			appending := string(v.Data) == "true"
			f.append = &appending
			continue
		}
		words = append(words, fmt.Sprintf("%s=%s", strings.Join(part, "."), v.Data))
	}
	if len(words) > 0 {
		f.values = append(f.values, value{strings.Join(words, ","), n.Kind, at})
	}
}
