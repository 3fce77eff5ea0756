package rootless

import (
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/storage/image"
)

// Events is the record of what moss did; none is kept where that is configured.
func (e *Engine) Events() event.Log {
	if e.Config.String("engine.events_logger") == "none" {
		return ""
	}
	return event.At(e.Paths.Root)
}

// note records what has been done to a container. more may complete the event.
func (e *Engine) note(c *container.Container, status string, more ...func(*event.Event)) {
	e.Events().Write(about(&c.Spec, status, more...))
}

// Note records what a command has done to a container with several verbs, such as
// event.Restart, which stops and starts it.
func (e *Engine) Note(c *container.Container, status string) { e.note(c, status) }

// about is an event of a container.
func about(spec *container.Spec, status string, more ...func(*event.Event)) *event.Event {
	out := &event.Event{
		Type: event.Container, Status: status, ID: spec.ID, Name: spec.Name, Image: imageName(spec),
		Pod: spec.Pod, Attributes: spec.Labels,
	}
	for _, f := range more {
		f(out)
	}
	return out
}

// withCode gives an event an exit code.
func withCode(code int) func(*event.Event) {
	return func(e *event.Event) { e.ExitCode = &code }
}

// imageName is the image's name as events have it: complete, where it says enough.
func imageName(spec *container.Spec) string {
	ref, err := image.Parse(spec.Image.Name)
	if err != nil || ref.Registry == "" {
		return spec.Image.Name
	}
	return ref.Complete().String()
}

// noteVolumes records what was done to volumes.
func (e *Engine) noteVolumes(status string, names ...string) {
	events := make([]*event.Event, len(names))
	for i, name := range names {
		events[i] = &event.Event{Type: event.Volume, Status: status, ID: name, Name: name}
	}
	e.Events().Write(events...)
}
