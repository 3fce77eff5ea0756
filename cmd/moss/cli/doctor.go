package cli

import (
	"context"
	"fmt"
	"os"
	"reflect"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
)

// DoctorCmd is "moss doctor".
type DoctorCmd struct {
	Globals
	Format string `words:"json" short:"f" help:"Print as json." placeholder:"FORMAT"`
}

func (cmd *DoctorCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[DoctorCmd]()}
	v.one("format", cmd.Format, oneOf("json"))
	return v.err
}

// Run prints one line for each thing that was tried, as it is tried, and ends
// with exit code 1 when something that is needed fails.
func (cmd *DoctorCmd) Run(ctx context.Context, c *call) error {
	o := rootless.DoctorOptions{Dirs: c.Dirs, CgroupManager: cmd.CgroupManager}
	if cmd.Format == "" {
		ok, bad, note := "ok  ", "FAIL", "note"
		if f, isFile := c.Out.(*os.File); isFile && isTerminal(f) {
			ok, bad, note = "✓   ", "✗   ", "•   "
		}
		o.Report = func(check rootless.Check) {
			switch {
			case check.OK:
				fmt.Fprintf(c.Out, "%s  %s%s\n", ok, check.Name, colon(check.Detail))
				return
			case check.Needed:
				fmt.Fprintf(c.Out, "%s  %s%s\n", bad, check.Name, colon(check.Cause))
			default:
				fmt.Fprintf(c.Out, "%s  %s%s\n", note, check.Name, colon(check.Cause))
			}
			if check.Fix != "" {
				fmt.Fprintf(c.Out, "      to mend it: %s\n", check.Fix)
			}
		}
	}
	checks := rootless.Doctor(ctx, o)
	if cmd.Format == "json" {
		if err := format.JSON(c.Out, checks); err != nil {
			return err
		}
	}
	if !rootless.Healthy(checks) {
		return &exitError{code: exitFound}
	}
	return nil
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}
