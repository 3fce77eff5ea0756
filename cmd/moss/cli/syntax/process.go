package syntax

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
)

// rlimits are the names of setrlimit(2), with their numbers.
var rlimits = []struct {
	name   string
	number int
}{
	{"as", unix.RLIMIT_AS}, {"core", unix.RLIMIT_CORE}, {"cpu", unix.RLIMIT_CPU}, {"data", unix.RLIMIT_DATA},
	{"fsize", unix.RLIMIT_FSIZE}, {"locks", unix.RLIMIT_LOCKS}, {"memlock", unix.RLIMIT_MEMLOCK},
	{"msgqueue", unix.RLIMIT_MSGQUEUE}, {"nice", unix.RLIMIT_NICE}, {"nofile", unix.RLIMIT_NOFILE},
	{"nproc", unix.RLIMIT_NPROC}, {"rss", unix.RLIMIT_RSS}, {"rtprio", unix.RLIMIT_RTPRIO},
	{"rttime", unix.RLIMIT_RTTIME}, {"sigpending", unix.RLIMIT_SIGPENDING}, {"stack", unix.RLIMIT_STACK},
}

// Ulimit reads NAME=SOFT[:HARD]; -1 is unlimited. "host" copies moss's own limits.
func Ulimit(s string) ([]container.Rlimit, error) {
	if s == "host" {
		return hostLimits()
	}
	name, values, ok := strings.Cut(s, "=")
	if !ok {
		return nil, fmt.Errorf("want NAME=SOFT[:HARD]")
	}
	name = strings.TrimPrefix(strings.ToLower(name), "rlimit_")
	known := slices.ContainsFunc(rlimits, func(r struct {
		name   string
		number int
	}) bool {
		return r.name == name
	})
	if !known {
		return nil, fmt.Errorf("unknown limit %q", name)
	}
	softText, hardText, hasHard := strings.Cut(values, ":")
	soft, err := limit(softText)
	if err != nil {
		return nil, err
	}
	hard := soft
	if hasHard {
		if hard, err = limit(hardText); err != nil {
			return nil, err
		}
	}
	if hard != -1 && (soft == -1 || soft > hard) {
		return nil, fmt.Errorf("the soft limit %s is above the hard limit %s", softText, hardText)
	}
	return []container.Rlimit{{Name: name, Soft: soft, Hard: hard}}, nil
}

func limit(s string) (int64, error) {
	if s == "unlimited" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < -1 {
		return 0, fmt.Errorf("limit %q is neither a number nor -1", s)
	}
	return n, nil
}

func hostLimits() ([]container.Rlimit, error) {
	var out []container.Rlimit
	for _, r := range rlimits {
		var have unix.Rlimit
		if err := unix.Getrlimit(r.number, &have); err != nil {
			return nil, fmt.Errorf("cannot read limit %q: %w", r.name, err)
		}
		// RLIM_INFINITY is all ones: -1.
		out = append(out, container.Rlimit{Name: r.name, Soft: int64(have.Cur), Hard: int64(have.Max)})
	}
	return out, nil
}

// Signal reads the name of a signal, with or without SIG, or its number.
func Signal(s string) (int, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("no signal has the number %d", n)
		}
		return n, nil
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if n := unix.SignalNum(name); n != 0 {
		return int(n), nil
	}
	// Real-time signals, as kill -l names them: RTMIN is 34 with glibc and musl.
	for _, edge := range []struct {
		name string
		base int
	}{{"SIGRTMIN", 34}, {"SIGRTMAX", 64}} {
		rest, ok := strings.CutPrefix(name, edge.name)
		if !ok {
			continue
		}
		n := edge.base
		if rest != "" {
			offset, err := strconv.Atoi(rest)
			if err != nil {
				break
			}
			n += offset
		}
		if n >= 34 && n <= 64 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}

// Umask reads an octal mask.
func Umask(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("not an octal number up to 0777")
	}
	return uint32(n), nil
}

// User checks USER[:GROUP] by names or numbers.
func User(s string) error {
	user, group, hasGroup := strings.Cut(s, ":")
	if user == "" && group == "" || strings.Contains(group, ":") || hasGroup && group == "" {
		return fmt.Errorf("want USER[:GROUP]")
	}
	return nil
}

// CPUSet checks a list such as 0-3,5.
func CPUSet(s string) error {
	for _, part := range strings.Split(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.ParseUint(first, 10, 16)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(last, 10, 16)
		}
		if err != nil || to < from {
			return fmt.Errorf("%q is neither a number nor a range such as 0-3", part)
		}
	}
	return nil
}

// RestartPolicy reads no, always, unless-stopped or on-failure[:N].
func RestartPolicy(s string) (policy string, retries int, err error) {
	policy, count, hasCount := strings.Cut(s, ":")
	switch policy {
	case "", "no", "never":
		policy = "no"
	case "always", "unless-stopped", "on-failure":
	default:
		return "", 0, fmt.Errorf("unknown policy: want no, on-failure[:N], always or unless-stopped")
	}
	if !hasCount {
		return policy, 0, nil
	}
	if policy != "on-failure" {
		return "", 0, fmt.Errorf("only on-failure takes a number of retries")
	}
	retries, err = strconv.Atoi(count)
	if err != nil || retries < 1 {
		return "", 0, fmt.Errorf("number of retries %q is not a positive number", count)
	}
	return policy, retries, nil
}

// Device checks HOST[:CONTAINER][:rwm], and that the host has it.
func Device(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return fmt.Errorf("too many colons: want HOST[:CONTAINER][:PERMISSIONS]")
	}
	for i, part := range parts[1:] {
		if strings.HasPrefix(part, "/") && i == 0 {
			continue
		}
		if part == "" || strings.Trim(part, "rwm") != "" || i != len(parts)-2 {
			return fmt.Errorf("%q is neither an absolute path nor permissions made of r, w and m", part)
		}
	}
	if !strings.HasPrefix(parts[0], "/") {
		return fmt.Errorf("path %q is not absolute", parts[0])
	}
	return sourceExists(parts[0])
}

// IsCDI says whether a device is named as the Container Device Interface does it,
// VENDOR/CLASS=NAME.
func IsCDI(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, slash := strings.Cut(kind, "/")
	return ok && slash && vendor != "" && class != "" && name != "" && !strings.Contains(class, "/") && strings.Contains(vendor, ".")
}

// GPUs reads --gpus, all or a list of numbers or UUIDs, into names of CDI devices.
func GPUs(s string) ([]string, error) {
	var out []string
	for _, gpu := range strings.Split(strings.TrimPrefix(s, "device="), ",") {
		if gpu == "" || strings.Trim(gpu, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-:") != "" {
			return nil, fmt.Errorf("%q is neither all nor the number or UUID of a GPU", gpu)
		}
		out = append(out, "nvidia.com/gpu="+gpu)
	}
	return out, nil
}

// DetachKeys reads a comma-separated list of single characters and ctrl-X, where
// X is a letter or one of @ [ \ ] ^ _. "" means that there is no such sequence.
func DetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var out []byte
	for _, key := range strings.Split(s, ",") {
		rest, ctrl := strings.CutPrefix(key, "ctrl-")
		switch {
		case len(key) == 1 && key[0] >= ' ' && key[0] < 0x7f:
			out = append(out, key[0])
		case ctrl && len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'z':
			out = append(out, rest[0]-'a'+1)
		case ctrl && len(rest) == 1 && rest[0] >= '@' && rest[0] <= '_':
			out = append(out, rest[0]-'@')
		default:
			return nil, fmt.Errorf("unknown key %q: want single characters or ctrl-X, separated by commas", key)
		}
	}
	return out, nil
}
