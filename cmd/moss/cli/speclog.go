package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/systemd/journal"
)

// log reads --log-driver and --log-opt.
func (r *specReader) log() {
	f, log := r.f, &r.spec.Log
	r.one("log-driver", f.LogDriver, oneOf("k8s-file", "json-file", "journald", "none", "passthrough", "passthrough-tty"))
	r.check(f.LogDriver == "passthrough" && f.TTY, "--log-driver passthrough cannot be combined with --tty")
	r.check(f.LogDriver == "passthrough-tty" && f.TTY, "--log-driver passthrough-tty cannot be combined with --tty: the program has moss's own terminal")
	log.Driver = f.LogDriver
	if log.Driver == "" && os.Getenv(rootless.UnitLabel) != "" && !f.TTY && journal.Available(journal.Socket) == nil {
		log.Driver = "journald" // 'journalctl --user --unit' is where one looks for it
	}
	r.each("log-opt", f.LogOpt, func(v string) error {
		key, value, err := syntax.KeyValue(v, false)
		if err != nil {
			return err
		}
		if log.Options == nil {
			log.Options = map[string]string{}
		}
		return r.logOption(key, value)
	})
}

func (r *specReader) logOption(key, value string) (err error) {
	options := r.spec.Log.Options
	switch key {
	case "max-size":
		size := int64(-1)
		if value != "-1" {
			size, err = syntax.Size(value)
		}
		options[key] = strconv.FormatInt(size, 10)
	case "max-file":
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return fmt.Errorf("%q is not a number of files", value)
		}
		options[key] = value
	case "path":
		options[key], err = r.writable(value)
	case "tag":
		options[key] = value
	case "label":
		name, text, ok := strings.Cut(value, "=")
		if !ok || strings.Contains(text, "\n") {
			return fmt.Errorf("%q is not FIELD=VALUE", value)
		}
		if err := journal.CheckField(name); err != nil {
			return err
		}
		options[key] += value + "\n"
	default:
		return fmt.Errorf("unknown option %q: want max-size, max-file, path, tag or label", key)
	}
	return err
}
