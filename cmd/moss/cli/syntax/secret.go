package syntax

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"moss/rootless/container"
)

// Secret reads NAME[,KEY=VALUE…] of --secret. A target that is not absolute is
// below /run/secrets, or the variable's name.
func Secret(s string) (container.Secret, error) {
	out := container.Secret{Mode: 0o444}
	kind, target, owner := "mount", "", false
	for i, field := range strings.Split(s, ",") {
		key, value, hasValue := strings.Cut(field, "=")
		if i == 0 && !hasValue {
			key, value = "source", field
		}
		var err error
		switch key {
		case "source", "src":
			out.Name = value
		case "type":
			if kind = value; kind != "mount" && kind != "env" {
				err = fmt.Errorf("unknown type %q: want mount or env", value)
			}
		case "target":
			if target = value; value == "" {
				err = fmt.Errorf("the target is empty")
			}
		case "uid":
			owner = true
			out.UID, err = number(key, value, 10)
		case "gid":
			owner = true
			out.GID, err = number(key, value, 10)
		case "mode":
			owner = true
			if out.Mode, err = number(key, value, 8); err == nil && out.Mode > 0o7777 {
				err = fmt.Errorf("mode %q is not an octal number up to 7777", value)
			}
		default:
			err = fmt.Errorf("unknown option %q: want type, target, uid, gid or mode", key)
		}
		if err != nil {
			return out, err
		}
	}
	if out.Name == "" {
		return out, fmt.Errorf("the name of the secret is missing")
	}
	if kind == "mount" {
		return out, mountSecret(&out, target)
	}
	if owner {
		return out, fmt.Errorf("uid, gid and mode are for type=mount")
	}
	if out.Mode, out.Env = 0, target; target == "" {
		out.Env = out.Name
	}
	if strings.ContainsAny(out.Env, "=\x00") {
		return out, fmt.Errorf("%q is not the name of a variable", out.Env)
	}
	return out, nil
}

func mountSecret(s *container.Secret, target string) error {
	if target == "" {
		target = s.Name
	}
	if slices.Contains(strings.Split(target, "/"), "..") {
		return fmt.Errorf("target %q leads upwards", target)
	}
	if !path.IsAbs(target) {
		target = "/run/secrets/" + target
	}
	if s.Target = path.Clean(target); s.Target == "/" || s.Target == "/run/secrets" {
		return fmt.Errorf("target %q is a directory", target)
	}
	return nil
}

func number(key, value string, base int) (uint32, error) {
	n, err := strconv.ParseUint(value, base, 32)
	if err != nil {
		return 0, fmt.Errorf("%s %q is not a number", key, value)
	}
	return uint32(n), nil
}

// VolumesFrom checks CONTAINER[:OPTIONS].
func VolumesFrom(s string) error {
	name, options, given := strings.Cut(s, ":")
	if name == "" {
		return fmt.Errorf("the container is missing")
	}
	access := ""
	for o := range strings.SplitSeq(options, ",") {
		switch {
		case o == "z", !given:
		case o == "ro", o == "rw":
			if access != "" {
				return fmt.Errorf("options %s and %s: no more than one can be meant", access, o)
			}
			access = o
		default:
			return fmt.Errorf("unknown option %q: want ro, rw or z", o)
		}
	}
	return nil
}
