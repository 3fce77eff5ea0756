package quadlet

import "strings"

// Word writes a word of a command line so that systemd reads it as it stands: what
// would be a specifier or a variable is none.
func Word(word string) string { return quote(strings.ReplaceAll(escape(word), "$", "$$")) }

// Setting writes an assignment for Environment=, in which nothing is a variable.
func Setting(name, value string) string { return quote(escape(name + "=" + value)) }
