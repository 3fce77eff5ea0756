package archive

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"moss/storage/image"
)

// instructions are those that apply knows.
const instructions = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR"

// apply lays Containerfile instructions over a configuration. Both "CMD x" and
// "CMD=x" are understood.
func apply(config *image.Config, changes []string) error {
	for _, change := range changes {
		i := strings.IndexAny(change, " \t=")
		if i < 0 {
			i = len(change)
		}
		word, rest := strings.ToUpper(change[:i]), strings.TrimSpace(strings.TrimLeft(change[i:], "= \t"))
		if err := applyOne(config, word, rest); err != nil {
			return fmt.Errorf("cannot apply change %q: %w", change, err)
		}
	}
	return nil
}

func applyOne(config *image.Config, word, rest string) error {
	if rest == "" && word != "CMD" && word != "ENTRYPOINT" {
		return fmt.Errorf("%s needs a value", word)
	}
	switch word {
	case "CMD":
		config.Cmd = command(rest)
	case "ENTRYPOINT":
		config.Entrypoint = command(rest)
	case "ENV":
		pairs, err := pairs(rest)
		for _, p := range pairs {
			config.Env = setEnv(config.Env, p[0], p[1])
		}
		return err
	case "LABEL":
		pairs, err := pairs(rest)
		for _, p := range pairs {
			set(&config.Labels, p[0], p[1])
		}
		return err
	case "EXPOSE":
		for _, port := range strings.Fields(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			set(&config.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		for _, path := range jsonOrFields(rest) {
			set(&config.Volumes, path, struct{}{})
		}
	case "STOPSIGNAL":
		config.StopSignal = rest
	case "USER":
		config.User = rest
	case "WORKDIR":
		config.WorkingDir = rest
	case "ONBUILD":
		config.OnBuild = append(config.OnBuild, rest)
	case "SHELL":
		if json.Unmarshal([]byte(rest), &config.Shell) != nil {
			return fmt.Errorf("SHELL wants a list in JSON")
		}
	case "HEALTHCHECK":
		check, err := healthcheck(rest)
		if err == nil {
			config.Healthcheck = check
		}
		return err
	default:
		return fmt.Errorf("unknown instruction %q (%s)", word, instructions)
	}
	return nil
}

// healthcheck reads NONE, or flags and CMD.
func healthcheck(s string) (*image.Healthcheck, error) {
	check := &image.Healthcheck{}
	for strings.HasPrefix(s, "--") {
		flag, rest, _ := strings.Cut(s, " ")
		name, value, _ := strings.Cut(flag, "=")
		var err error
		switch name {
		case "--interval":
			check.Interval, err = time.ParseDuration(value)
		case "--timeout":
			check.Timeout, err = time.ParseDuration(value)
		case "--start-period":
			check.StartPeriod, err = time.ParseDuration(value)
		case "--start-interval":
			check.StartInterval, err = time.ParseDuration(value)
		case "--retries":
			check.Retries, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown flag %q", name)
		}
		if err != nil {
			return nil, err
		}
		s = strings.TrimSpace(rest)
	}
	word, rest, _ := strings.Cut(s, " ")
	switch rest = strings.TrimSpace(rest); {
	case strings.EqualFold(word, "NONE") && rest == "":
		check.Test = []string{"NONE"}
	case strings.EqualFold(word, "CMD") && json.Unmarshal([]byte(rest), &check.Test) == nil:
		check.Test = append([]string{"CMD"}, check.Test...)
	case strings.EqualFold(word, "CMD") && rest != "":
		check.Test = []string{"CMD-SHELL", rest}
	default:
		return nil, fmt.Errorf("HEALTHCHECK wants NONE or CMD")
	}
	return check, nil
}

func set[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = make(map[string]V)
	}
	(*m)[key] = value
}

func setEnv(env []string, name, value string) []string {
	for n, line := range env {
		if strings.HasPrefix(line, name+"=") {
			env[n] = name + "=" + value
			return env
		}
	}
	return append(env, name+"="+value)
}

// command reads ["a", "b"] as it is, and anything else as a line for the shell.
func command(s string) []string {
	var args []string
	if json.Unmarshal([]byte(s), &args) == nil {
		return args
	}
	if s == "" {
		return nil
	}
	return []string{"/bin/sh", "-c", s}
}

func jsonOrFields(s string) []string {
	var paths []string
	if json.Unmarshal([]byte(s), &paths) == nil {
		return paths
	}
	return strings.Fields(s)
}

// pairs reads a=b c="d e", or the old form with one name and a space.
func pairs(s string) ([][2]string, error) {
	first, rest, _ := strings.Cut(s, " ")
	if !strings.Contains(first, "=") {
		if rest == "" {
			return nil, fmt.Errorf("%q has no value", first)
		}
		return [][2]string{{first, strings.TrimSpace(rest)}}, nil
	}
	words, err := words(s)
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", word)
		}
		all = append(all, [2]string{name, value})
	}
	return all, nil
}

// words splits at spaces; quotes and backslashes keep them, and are taken away.
func words(s string) ([]string, error) {
	var all []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, c := range s {
		switch {
		case escaped:
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, inWord = c, true
		case c == ' ' || c == '\t':
			if inWord {
				all = append(all, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote in %q is not closed", s)
	}
	if inWord {
		all = append(all, word.String())
	}
	return all, nil
}
