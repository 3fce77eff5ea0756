// Package format prints rows as aligned tables, as JSON or through the user's
// Go template, with sizes and times in words.
package format

import (
	"fmt"
	"strconv"
	"time"
)

// Duration is a length of time in one unit, as podman and Docker say it.
func Duration(d time.Duration) string {
	seconds := int(d.Seconds())
	hours := int(d.Hours() + 0.5)
	switch {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case seconds < 120:
		return "About a minute"
	case d.Minutes() < 60:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case hours == 1:
		return "About an hour"
	case hours < 48:
		return fmt.Sprintf("%d hours", hours)
	case hours < 24*7*2:
		return fmt.Sprintf("%d days", hours/24)
	case hours < 24*30*2:
		return fmt.Sprintf("%d weeks", hours/24/7)
	case hours < 24*365*2:
		return fmt.Sprintf("%d months", hours/24/30)
	}
	return fmt.Sprintf("%d years", int(d.Hours())/24/365)
}

// Ago says how long ago t was.
func Ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return Duration(time.Since(t)) + " ago"
}

// Size is a number of bytes in decimal units, with three digits at most and sep
// before the unit.
func Size(n int64, sep string) string { return SizeTo(n, 3, sep) }

// SizeTo is Size with another number of digits.
func SizeTo(n int64, digits int, sep string) string {
	f := float64(n)
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB"}
	i := 0
	for f >= 1000 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return strconv.FormatFloat(round(f, digits), 'f', -1, 64) + sep + units[i]
}

func round(f float64, digits int) float64 {
	s := strconv.FormatFloat(f, 'g', digits, 64)
	out, _ := strconv.ParseFloat(s, 64) // it has just been written
	return out
}

// Cut shortens s to n characters, the last three being dots.
func Cut(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	return string(runes[:n]) + "..."
}

// ShortID is the first twelve digits of an ID.
func ShortID(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
