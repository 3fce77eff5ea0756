package monitor

import (
	"path/filepath"

	"moss/rootless/event"
)

// note records what has happened to the container, oldest first; more completes
// each of the events.
func (m *monitor) note(more func(*event.Event), status ...string) {
	c, err := m.config()
	if err != nil || c.Events == "" {
		return
	}
	events := make([]*event.Event, len(status))
	for i, s := range status {
		events[i] = &event.Event{
			Type: event.Container, Status: s, ID: c.ID, Name: c.Name, Image: c.Image, Pod: c.Pod, Attributes: c.Labels,
		}
		if more != nil {
			more(events[i])
		}
	}
	c.Events.Write(events...)
}

// noteEnd records the end of a run.
func (m *monitor) noteEnd(exit Exit) {
	m.note(func(e *event.Event) { e.ExitCode = &exit.Code }, event.Died)
}

// noteRemoved records that the container is gone, with its anonymous volumes.
func (m *monitor) noteRemoved() {
	m.note(nil, event.Remove)
	for _, dir := range m.cfg.Volumes {
		name := filepath.Base(dir)
		m.cfg.Events.Write(&event.Event{Type: event.Volume, Status: event.Remove, ID: name, Name: name})
	}
}
