package quadlet

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

var errQuote = errors.New("a quotation mark is not closed")

// words splits a value at white space as systemd does: marks quote, and with
// unescape a backslash begins an escape of systemd.syntax(7); otherwise it means nothing.
// What is no escape stands for itself.
func words(s string, unescape bool) (out []string, err error) {
	var word strings.Builder
	inWord, mark := false, byte(0)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\\' && unescape:
			i += appendEscape(&word, s[i:])
			inWord = true
			continue
		case mark != 0 && c == mark:
			mark = 0
		case mark == 0 && (c == '"' || c == '\''):
			mark, inWord = c, true
		case mark == 0 && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
		i++
	}
	if inWord {
		out = append(out, word.String())
	}
	if mark != 0 {
		return out, errQuote
	}
	return out, nil
}

// appendEscape writes what the escape at the head of s stands for, and returns how
// long that is.
func appendEscape(w *strings.Builder, s string) int {
	if len(s) < 2 {
		w.WriteByte('\\')
		return 1
	}
	const from, to = `abfnrtvs\"' `, "\a\b\f\n\r\t\v \\\"' "
	if i := strings.IndexByte(from, s[1]); i >= 0 {
		w.WriteByte(to[i])
		return 2
	}
	digits, base := 0, 16
	switch s[1] {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case '0', '1', '2', '3':
		digits, base = 3, 8
	}
	start := 2
	if base == 8 {
		start = 1
	}
	if digits > 0 && len(s) >= start+digits {
		if n, err := strconv.ParseUint(s[start:start+digits], base, 32); err == nil && n != 0 {
			if digits > 3 && utf8.ValidRune(rune(n)) {
				w.WriteRune(rune(n))
			} else {
				w.WriteByte(byte(n))
			}
			return start + digits
		}
	}
	w.WriteByte('\\')
	return 1
}

// quote writes a word so that systemd reads it as one. Specifiers and variables are
// left to it: who wrote them in the file means them.
func quote(word string) string {
	plain := word != "" && word != ";" && utf8.ValidString(word)
	for i := 0; i < len(word) && plain; i++ {
		plain = word[i] > ' ' && word[i] != 0x7f && strings.IndexByte(`"'\`, word[i]) < 0
	}
	if plain {
		return word
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(word); i++ {
		r, size := utf8.DecodeRuneInString(word[i:])
		switch c := word[i]; {
		case size > 1:
			b.WriteString(word[i : i+size])
			i += size - 1
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c < ' ' || c == 0x7f || r == utf8.RuneError: // what is not UTF-8 as it is has the whole line ignored
			b.WriteString(`\x` + string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// Word writes a word of a command line so that systemd reads it as it stands: what
// would be a specifier or a variable is none.
func Word(word string) string { return quote(strings.ReplaceAll(escape(word), "$", "$$")) }

// Setting writes an assignment for Environment=, in which nothing is a variable.
func Setting(name, value string) string { return quote(escape(name + "=" + value)) }

// Nearest is the name that a mistyped one most likely means; "" if none is near.
func Nearest(name string, names []string) string {
	if len(name) > 64 {
		return "" // no slip of the keyboard
	}
	best, distance := "", min(len(name)/3+2, len(name)-1)
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return n
		}
		if d := edits(strings.ToLower(name), strings.ToLower(n)); d < distance {
			best, distance = n, d
		}
	}
	return best
}

// edits is how many letters must be changed, added, taken away or exchanged with
// their neighbour to get from a to b.
func edits(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
