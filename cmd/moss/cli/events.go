package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/record"
	"moss/rootless/event"
)

// EventsCmd is "moss events".
type EventsCmd struct {
	Globals
	Filter  []string `short:"f" sep:"none" help:"Show those that match: container, event, image, label, pod, volume or type." placeholder:"KEY=VALUE"`
	Format  string   `help:"Print as json, one object a line, or through a Go template." placeholder:"FORMAT"`
	Since   string   `help:"Begin with what happened then: a time, or a duration such as 10m ago." placeholder:"TIME"`
	Until   string   `help:"End with what happens then: a time, or a duration such as 10m from now." placeholder:"TIME"`
	Stream  *bool    `help:"Go on with what happens from now on; on by default."`
	NoTrunc *bool    `help:"Show IDs in full; on by default."`

	options event.Options
	filters filters
}

// eventFilters are the keys that select events.
var eventFilters = []string{"container", "event", "status", "image", "label", "pod", "volume", "network", "type"}

func (cmd *EventsCmd) prepare() (err error) {
	now := time.Now()
	v := &flagValues{grammar: reflect.TypeFor[EventsCmd]()}
	v.one("since", cmd.Since, func(s string) (err error) {
		cmd.options.Since, err = syntax.Moment(s, now)
		return err
	})
	v.one("until", cmd.Until, func(s string) (err error) {
		if d, derr := time.ParseDuration(s); derr == nil { // podman: from now on
			cmd.options.Until = now.Add(d)
			return nil
		}
		cmd.options.Until, err = syntax.Moment(s, now)
		return err
	})
	if v.err != nil {
		return v.err
	}
	stream := cmd.Stream == nil || *cmd.Stream
	cmd.options.OnlyNew = stream && cmd.Since == "" && cmd.Until == ""
	cmd.options.Follow = stream && (cmd.options.Until.IsZero() || cmd.options.Until.After(now))
	cmd.filters, err = parseFilters("filter", cmd.Filter, eventFilters)
	return err
}

// interruptible: it goes on until then.
func (cmd *EventsCmd) interruptible() bool { return cmd.options.Follow }

// Run prints each event as it comes.
func (cmd *EventsCmd) Run(ctx context.Context, c *call) error {
	var tmpl *template.Template
	if cmd.Format != "" && cmd.Format != "json" {
		var err error
		if tmpl, err = format.Parse(cmd.Format); err == nil {
			err = format.Check(tmpl, reflect.TypeFor[eventJSON]()) // it may be long until there is an event
		}
		if err != nil {
			return err
		}
	}
	out := bufio.NewWriter(c.Out)
	print := func(e *event.Event) error {
		switch {
		case cmd.Format == "json":
			line, err := record.Encode(eventFields(e))
			if err != nil {
				return err
			}
			out.Write(append(line, '\n'))
		case tmpl != nil:
			if err := format.Execute(out, tmpl, eventFields(e)); err != nil {
				return err
			}
		case cmd.NoTrunc != nil && !*cmd.NoTrunc:
			fmt.Fprintln(out, e.Short())
		default:
			fmt.Fprintln(out, e)
		}
		if cmd.options.Follow {
			return out.Flush()
		}
		return nil
	}
	err := c.Engine.Events().Read(ctx, cmd.options, func(e *event.Event) error {
		if !cmd.filters.matchesEvent(e) {
			return nil
		}
		return print(e)
	})
	if err != nil && !errors.Is(err, context.Canceled) { // interrupted: that is how it ends
		return err
	}
	return out.Flush()
}

// matchesEvent says whether an event passes the filters.
func (f filters) matchesEvent(e *event.Event) bool {
	is := func(kind string) func(string) bool {
		return func(v string) bool {
			return e.Type == kind && (e.Name == v || strings.HasPrefix(e.ID, v))
		}
	}
	status := func(v string) bool {
		return v == e.Status || v == "load" && e.Status == event.Load || v == "die" && e.Status == event.Died
	}
	return f.any("container", is(event.Container)) &&
		f.any("image", is(event.Image)) &&
		f.any("volume", is(event.Volume)) &&
		f.any("network", func(v string) bool { return e.Network == v || is(event.Network)(v) }) &&
		f.any("pod", func(v string) bool {
			return is(event.Pod)(v) || e.Pod != "" && strings.HasPrefix(e.Pod, v)
		}) &&
		f.any("event", status) && f.any("status", status) &&
		f.any("type", func(v string) bool { return v == e.Type }) &&
		f.all("label", func(v string) bool { return hasLabel(e.Attributes, v) })
}

// eventJSON is an event as --format sees it, with podman's names.
type eventJSON struct {
	ContainerExitCode *int   `json:",omitempty"`
	ID                string `json:",omitempty"`
	Image             string `json:",omitempty"`
	Name              string `json:",omitempty"`
	Network           string `json:"network,omitempty"`
	PodID             string `json:",omitempty"`
	Status            string
	Time              int64 `json:"time,omitempty"`     // seconds
	TimeNano          int64 `json:"timeNano,omitempty"` // nanoseconds
	Type              string
	HealthStatus      string `json:"health_status,omitempty"`
	HealthLog         string `json:"health_log,omitempty"`
	Error             string `json:",omitempty"`
	Attributes        map[string]string
}

func eventFields(e *event.Event) eventJSON {
	return eventJSON{
		ContainerExitCode: e.ExitCode, ID: e.ID, Image: e.Image, Name: e.Name, Network: e.Network, PodID: e.Pod,
		Status: e.Status, Time: e.Time.Unix(), TimeNano: e.Time.UnixNano(), Type: e.Type,
		HealthStatus: e.Health, HealthLog: e.HealthLog, Error: e.Error, Attributes: e.Attributes,
	}
}
