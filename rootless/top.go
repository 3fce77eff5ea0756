package rootless

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
)

// DefaultTop are the descriptors of Top when none are given.
var DefaultTop = []string{"user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args"}

// Top lists the processes in a container, the header first. The descriptors are
// those of ps -o as POSIX and AIX name them ("pid", or "%p"), and some of
// containers ("hpid", "huser"), each its own argument or several with commas
// between; ps's own "aux", "-ef" and "-o LIST" are understood too.
func (e *Engine) Top(ctx context.Context, c *container.Container, descriptors []string) ([][]string, error) {
	wrap := func(err error) error {
		return fmt.Errorf("cannot list the processes of container %q: %w", c.Spec.Name, err)
	}
	columns, err := topColumns(descriptors)
	if err != nil {
		return nil, wrap(err)
	}
	v := c.Look()
	if !v.Status.CanKill() {
		return nil, wrap(fmt.Errorf("it is %s, not running: %w", v.Status, errdefs.ErrFailedPrecondition))
	}
	inside, err := newInsideView(v.Live)
	if err != nil {
		return nil, wrap(err)
	}

	header := make([]string, len(columns))
	for i, column := range columns {
		header[i] = column.header
	}
	rows := [][]string{header}
	for _, p := range inside.processes() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row := make([]string, len(columns))
		for i, column := range columns {
			row[i] = column.value(p)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// topColumns finds the columns of descriptors.
func topColumns(descriptors []string) ([]topColumn, error) {
	names, err := topNames(descriptors)
	if err != nil {
		return nil, err
	}
	columns := make([]topColumn, 0, len(names))
	for _, name := range names {
		i := slices.IndexFunc(allTopColumns, func(c topColumn) bool { return slices.Contains(c.names, strings.ToLower(name)) })
		if i < 0 {
			return nil, fmt.Errorf("unknown descriptor %q: known are %s: %w",
				name, strings.Join(TopDescriptors(), ", "), errdefs.ErrInvalidArgument)
		}
		columns = append(columns, allTopColumns[i])
	}
	return columns, nil
}

// TopDescriptors are the descriptors that Top knows, in alphabetical order.
func TopDescriptors() []string {
	var names []string
	for _, column := range allTopColumns {
		names = append(names, column.names[0])
	}
	slices.Sort(names)
	return names
}

// topNames understands what ps(1) takes in place of descriptors.
func topNames(arguments []string) ([]string, error) {
	var names []string
	for i := 0; i < len(arguments); i++ {
		argument := arguments[i]
		list := func() (string, bool) { // the value of -o: attached, or the next argument
			_, attached, _ := strings.Cut(argument, "o")
			if attached != "" {
				return attached, true
			}
			i++
			return strings.Join(arguments[min(i, len(arguments)):min(i+1, len(arguments))], ""), i < len(arguments)
		}
		switch {
		case slices.Contains([]string{"-e", "-A", "ax", "-ax"}, argument): // everything: it is a container's everything
		case slices.Contains([]string{"-f", "-ef", "ef"}, argument):
			names = append(names, "uid", "pid", "ppid", "pcpu", "stime", "tty", "time", "args")
		case slices.Contains([]string{"aux", "-aux", "au", "u"}, argument):
			names = append(names, "user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "state", "stime", "time", "args")
		case strings.HasPrefix(argument, "-") && strings.Contains(argument, "o") && strings.Trim(argument[1:strings.Index(argument, "o")], "eAax") == "":
			value, ok := list()
			if !ok {
				return nil, fmt.Errorf("option %s needs a list of descriptors: %w", argument, errdefs.ErrInvalidArgument)
			}
			names = append(names, strings.Split(value, ",")...)
		case strings.HasPrefix(argument, "-"):
			return nil, fmt.Errorf("unknown option %q: %w", argument, errdefs.ErrInvalidArgument)
		default:
			for name := range strings.SplitSeq(argument, ",") {
				if name = strings.TrimSpace(name); name != "" {
					names = append(names, name)
				}
			}
		}
	}
	if len(names) == 0 {
		return DefaultTop, nil
	}
	return names, nil
}
