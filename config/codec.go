package config

import (
	"strconv"
	"strings"
)

// codecVersion is raised when a record changes its meaning.
const codecVersion = "moss-config 1"

// encode writes a record as words that end in NUL, which no value holds: reading
// them takes a tenth of the time of JSON, and every run does. What only the image
// helper goes by, which reads the files itself, stays out.
func (r *Record) encode() []byte {
	var b []byte
	word := func(words ...string) {
		for _, w := range words {
			b = append(append(b, w...), 0)
		}
	}
	number := func(n int) { word(strconv.Itoa(n)) }
	p := r.Place
	word(codecVersion, p.Usr, p.Etc, p.User, p.Conf, p.Override, p.Storage, p.Registries)
	number(len(r.Marks))
	for _, m := range r.Marks {
		word(m.Path, strconv.FormatInt(m.MTime, 10), strconv.FormatInt(m.Size, 10), strconv.FormatUint(m.Inode, 10))
	}
	for _, s := range r.Config.Settings {
		if s.Group() == "registries" {
			continue
		}
		word(s.Key)
		number(len(s.Values))
		word(s.Values...)
		number(len(s.From))
		for _, o := range s.From {
			word(o.File)
			number(o.Line)
		}
	}
	return b
}

// reader takes the words of a record.
type reader struct {
	rest string
	bad  bool
}

func (r *reader) word() string {
	word, rest, ok := strings.Cut(r.rest, "\x00")
	r.rest, r.bad = rest, r.bad || !ok
	return word
}

func (r *reader) number() int {
	n, err := strconv.Atoi(r.word())
	if err != nil || n < 0 || n > 1<<20 {
		r.bad = true
		return 0
	}
	return n
}

// decode reads what encode wrote; false if it is not whole or of another version.
func decode(data string) (rec *Record, ok bool) {
	r := &reader{rest: data}
	rec = new(Record)
	if r.word() != codecVersion {
		return nil, false
	}
	p := &rec.Place
	for _, field := range []*string{&p.Usr, &p.Etc, &p.User, &p.Conf, &p.Override, &p.Storage, &p.Registries} {
		*field = r.word()
	}
	for n := r.number(); n > 0 && !r.bad; n-- {
		m := Mark{Path: r.word()}
		m.MTime, _ = strconv.ParseInt(r.word(), 10, 64)
		m.Size, _ = strconv.ParseInt(r.word(), 10, 64)
		m.Inode, _ = strconv.ParseUint(r.word(), 10, 64)
		rec.Marks = append(rec.Marks, m)
	}
	for r.rest != "" && !r.bad {
		s := Setting{Key: r.word()}
		for n := r.number(); n > 0 && !r.bad; n-- {
			s.Values = append(s.Values, r.word())
		}
		for n := r.number(); n > 0 && !r.bad; n-- {
			o := Origin{File: r.word()}
			o.Line, _ = strconv.Atoi(r.word())
			s.From = append(s.From, o)
		}
		if len(s.From) == 0 { // Wrong counts on one
			r.bad = true
		}
		rec.Config.Settings = append(rec.Config.Settings, s)
	}
	return rec, !r.bad
}
