package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

var shellPrograms = []program{
	{"sh", "[-c COMMANDS | FILE]: a small shell: quotes, $NAME, pipes, < > >>, ; && ||, cd, export, exit", shell},
}

// shell reads commands from a line, a file, or its input.
func shell(args []string) int {
	s := &session{}
	switch {
	case len(args) > 1 && args[0] == "-c":
		return s.line(args[1])
	case len(args) > 0:
		f, err := os.Open(args[0])
		if err != nil {
			return fail("%v", err)
		}
		defer f.Close()
		return s.read(f, false)
	}
	info, err := os.Stdin.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	if terminal {
		signal.Notify(make(chan os.Signal, 1), syscall.SIGINT) // ends the command, not the shell
	}
	return s.read(os.Stdin, terminal)
}

// session is what one command leaves to the next.
type session struct {
	code int
	done bool
}

func (s *session) read(from io.Reader, prompt bool) int {
	lines := bufio.NewScanner(from)
	for {
		if prompt {
			dir, _ := os.Getwd()
			fmt.Fprintf(os.Stderr, "%s # ", dir)
		}
		if !lines.Scan() {
			return s.code
		}
		if s.line(lines.Text()); s.done {
			return s.code
		}
	}
}

// line runs a list of pipelines.
func (s *session) line(text string) int {
	words, err := split(text)
	if err != nil {
		s.code = 2
		return fail("sh: %v", err)
	}
	skip := false
	for len(words) > 0 && !s.done {
		end := slices.IndexFunc(words, func(w word) bool { return w.is(";") || w.is("&&") || w.is("||") })
		pipeline, after := words, ""
		words = nil
		if end >= 0 {
			pipeline, after, words = pipeline[:end], pipeline[end].text, pipeline[end+1:]
		}
		if !skip && len(pipeline) > 0 {
			s.code = s.pipeline(pipeline)
		}
		skip = after == "&&" && s.code != 0 || after == "||" && s.code == 0
	}
	return s.code
}

// word is one of a line; an operator was not quoted.
type word struct {
	text     string
	operator bool
	open     []bool // by byte: $ means something
}

func (w word) is(operator string) bool { return w.operator && w.text == operator }

// split cuts a line into words and operators.
func split(text string) (words []word, err error) {
	var now word
	begun := false
	flush := func() {
		if begun {
			words = append(words, now)
		}
		now, begun = word{}, false
	}
	put := func(c byte, open bool) {
		now.text, now.open, begun = now.text+string(c), append(now.open, open), true
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ' ' || c == '\t':
			flush()
		case c == '#' && !begun:
			return words, nil
		case c == '\\' && i+1 < len(text):
			i++
			put(text[i], false)
		case c == '\'' || c == '"':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return nil, errors.New("a quote is not closed")
			}
			begun = true
			for _, q := range []byte(text[i+1 : i+1+end]) {
				put(q, c == '"')
			}
			i += end + 1
		case strings.IndexByte("\n;|&<>", c) >= 0:
			flush()
			operator := string(c)
			if i+1 < len(text) && text[i+1] == c && c != ';' && c != '<' && c != '\n' {
				operator += string(c)
				i++
			}
			if operator == "\n" {
				operator = ";"
			}
			words = append(words, word{text: operator, operator: true})
		default:
			put(c, true)
		}
	}
	flush()
	return words, nil
}

// expand replaces $NAME, ${NAME} and $?.
func (s *session) expand(w word) string {
	var out strings.Builder
	for i := 0; i < len(w.text); i++ {
		if w.text[i] != '$' || !w.open[i] || i+1 == len(w.text) {
			out.WriteByte(w.text[i])
			continue
		}
		rest := w.text[i+1:]
		if rest[0] == '?' {
			fmt.Fprint(&out, s.code)
			i++
			continue
		}
		name, used := rest, 0
		if end := strings.IndexByte(rest, '}'); rest[0] == '{' && end > 0 {
			name, used = rest[1:end], end+1
		} else {
			for used < len(rest) && (rest[used] == '_' || rest[used] >= '0' && rest[used] <= '9' || rest[used]|32 >= 'a' && rest[used]|32 <= 'z') {
				used++
			}
			name = rest[:used]
		}
		if used == 0 {
			out.WriteByte('$')
		}
		out.WriteString(os.Getenv(name))
		i += used
	}
	return out.String()
}

// pipeline runs commands, each one's output the next one's input.
func (s *session) pipeline(words []word) int {
	var parts [][]word
	for part := words; ; {
		end := slices.IndexFunc(part, func(w word) bool { return w.is("|") })
		if end < 0 {
			parts = append(parts, part)
			break
		}
		parts, part = append(parts, part[:end]), part[end+1:]
	}
	if len(parts) == 1 {
		if code, ok := s.builtin(parts[0]); ok {
			return code
		}
	}
	var running []*exec.Cmd
	var in io.ReadCloser = os.Stdin
	code := 0
	for i, part := range parts {
		cmd, files, err := s.command(part)
		defer closeAll(files)
		if err != nil {
			code = 127
			fail("sh: %v", err)
			continue
		}
		if cmd.Stdin == nil {
			cmd.Stdin = in
		}
		if i+1 < len(parts) {
			r, w, err := os.Pipe()
			if err != nil {
				return fail("sh: %v", err)
			}
			defer w.Close()
			files = append(files, w)
			in, cmd.Stdout = r, w
		}
		if err := cmd.Start(); err != nil {
			code = 126
			fail("sh: %v", err)
		} else {
			running = append(running, cmd)
		}
		closeAll(files)
	}
	for _, cmd := range running {
		code = waitCode(cmd.Wait())
	}
	return code
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func waitCode(err error) int {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return exit.ExitCode()
}

// command reads one command and its redirections.
func (s *session) command(words []word) (cmd *exec.Cmd, files []*os.File, err error) {
	var args []string
	cmd = &exec.Cmd{Stdout: os.Stdout, Stderr: os.Stderr}
	for i := 0; i < len(words); i++ {
		w := words[i]
		if !w.operator {
			args = append(args, s.expand(w))
			continue
		}
		flags := map[string]int{"<": os.O_RDONLY, ">": os.O_WRONLY | os.O_CREATE | os.O_TRUNC, ">>": os.O_WRONLY | os.O_CREATE | os.O_APPEND}
		flag, ok := flags[w.text]
		if i++; !ok || i >= len(words) || words[i].operator {
			return nil, files, fmt.Errorf("unexpected %q", w.text)
		}
		f, err := os.OpenFile(s.expand(words[i]), flag, 0o644)
		if err != nil {
			return nil, files, err
		}
		if files = append(files, f); w.text == "<" {
			cmd.Stdin = f
		} else {
			cmd.Stdout = f
		}
	}
	if len(args) == 0 {
		return nil, files, errors.New("a command is missing")
	}
	cmd.Args = args
	cmd.Path, err = exec.LookPath(args[0])
	return cmd, files, err
}

// builtin runs what concerns the shell itself.
func (s *session) builtin(words []word) (code int, ok bool) {
	var args []string
	for _, w := range words {
		if w.operator {
			return 0, false
		}
		args = append(args, s.expand(w))
	}
	name, value, assigns := strings.Cut(args[0], "=")
	switch {
	case args[0] == "cd":
		if err := os.Chdir(arg(args, 1, "/")); err != nil {
			return fail("sh: %v", err), true
		}
	case args[0] == "exit":
		s.done, code = true, s.code
		if len(args) > 1 {
			fmt.Sscan(args[1], &code)
		}
		return code, true
	case args[0] == "export" && len(args) > 1:
		name, value, _ = strings.Cut(args[1], "=")
		os.Setenv(name, value)
	case assigns && len(args) == 1:
		os.Setenv(name, value)
	default:
		return 0, false
	}
	return 0, true
}
