// Package syntax reads the small languages in which flag values are written:
// sizes, ports, mounts, environment files, networks, security options.
//
// Every function is pure but for the files that a value names, and every error
// says only what is wrong with the value: the caller names the flag.
package syntax

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size reads a number of bytes with an optional unit: b, k, m, g, t or p, in
// either case, optionally followed by b or ib. Units are powers of 1024.
func Size(s string) (int64, error) {
	number := strings.TrimRight(s, "bBkKmMgGtTpPiI ")
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	shift, ok := map[string]uint{
		"": 0, "b": 0,
		"k": 10, "kb": 10, "kib": 10, "m": 20, "mb": 20, "mib": 20, "g": 30, "gb": 30, "gib": 30,
		"t": 40, "tb": 40, "tib": 40, "p": 50, "pb": 50, "pib": 50,
	}[unit]
	if !ok || number == "" {
		return 0, fmt.Errorf("not a size: want a number and one of b, k, m, g")
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("not a size: %q is not a number", number)
	}
	if f < 0 {
		return 0, fmt.Errorf("a size cannot be negative")
	}
	bytes := f * float64(uint64(1)<<shift)
	if bytes >= math.MaxInt64 {
		return 0, fmt.Errorf("a size cannot be that large")
	}
	return int64(bytes), nil
}

// Seconds reads a whole number of seconds; -1 stands for "for ever".
func Seconds(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of seconds", s)
	}
	if n < -1 {
		return 0, fmt.Errorf("a time cannot be negative")
	}
	return n, nil
}

// Interval reads a duration such as 250ms; a bare number is in milliseconds, as
// podman wait --interval has it.
func Interval(s string) (time.Duration, error) {
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(n) * time.Millisecond, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 250ms or 2s", s)
	}
	return d, nil
}

// epoch reads seconds since 1970, to the nanosecond.
func epoch(s string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || len(fraction) > 9 {
		return time.Time{}, false
	}
	nano, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	return time.Unix(sec, int64(nano)), err == nil
}

// Moment reads a point in time: RFC 3339 in its shortenings, seconds since the
// epoch, or a duration before now such as 10m.
func Moment(s string, now time.Time) (time.Time, error) {
	if t, ok := epoch(s); ok {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04",
		"2006-01-02T15:04Z07:00", "2006-01-02", "2006-01-02Z07:00",
	} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a time (2006-01-02T15:04:05) nor a duration (10m)", s)
}
