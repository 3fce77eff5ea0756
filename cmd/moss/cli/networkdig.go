package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"net/netip"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/slirp"
)

// NetworkDigCmd is "moss network dig".
type NetworkDigCmd struct {
	Globals
	Type      string `short:"t" help:"Type of the records: A, AAAA, PTR, MX …; A and AAAA if none is given, PTR for an address." placeholder:"TYPE"`
	Format    string `help:"Print as json, or through a Go template." placeholder:"FORMAT"`
	Container string `arg:"" help:"Name, ID, or the first digits of an ID."`
	Name      string `arg:"" help:"Name to look up, or an address."`
}

// Run tells who was asked, and what came of it. It ends with exit code 1 when the name
// is not known.
func (cmd *NetworkDigCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	types, name := []string{"A", "AAAA"}, cmd.Name
	if a, err := netip.ParseAddr(name); err == nil {
		types, name = []string{"PTR"}, arpa(a)
	}
	if cmd.Type != "" {
		types = []string{cmd.Type}
	}
	if ctr.Look().Live == nil {
		return fmt.Errorf("cannot look up %q for container %q: it does not run: %w", cmd.Name, ctr.Spec.Name, errdefs.ErrFailedPrecondition)
	}
	var all []*slirp.Dig
	found := false
	for _, kind := range types {
		d, err := slirp.Ask(ctx, c.slirpDirs(), slirp.DigRequest{Container: ctr.Spec.ID, Name: name, Type: kind})
		if err != nil {
			return fmt.Errorf("cannot look up %q for container %q: %w", cmd.Name, ctr.Spec.Name, err)
		}
		all = append(all, d)
		found = found || len(d.Records) > 0
	}
	if cmd.Format != "" {
		err = new(format.Table).Print(c.Out, cmd.Format, all, all)
	} else {
		for _, d := range all {
			printDig(c, d)
		}
	}
	if err == nil && !found {
		return &exitError{code: 1}
	}
	return err
}

func printDig(c *call, d *slirp.Dig) {
	fmt.Fprintf(c.Out, "%s %s\n", d.Name, d.Type)
	width := 0
	for _, s := range d.Steps {
		width = max(width, len(s.Where))
	}
	for _, s := range d.Steps {
		took := ""
		if s.Took > 0 {
			took = fmt.Sprintf(" (%s)", s.Took.Round(100*time.Microsecond))
		}
		fmt.Fprintf(c.Out, "  %-*s  %s%s\n", width, s.Where, s.Result, took)
	}
	for _, r := range d.Records {
		fmt.Fprintf(c.Out, "  %s\n", r)
	}
	if len(d.Records) == 0 {
		fmt.Fprintf(c.Out, "  %s, no records\n", d.Code)
	}
}

// arpa is the name that reverse questions about an address have: RFC 1035 §3.5, RFC 3596 §2.5.
func arpa(a netip.Addr) string {
	var b strings.Builder
	bytes := a.Unmap().AsSlice()
	for i := len(bytes) - 1; i >= 0; i-- {
		if a.Unmap().Is4() {
			fmt.Fprintf(&b, "%d.", bytes[i])
		} else {
			fmt.Fprintf(&b, "%x.%x.", bytes[i]&0xf, bytes[i]>>4)
		}
	}
	if a.Unmap().Is4() {
		return b.String() + "in-addr.arpa"
	}
	return b.String() + "ip6.arpa"
}
