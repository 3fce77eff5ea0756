// Package event appends to and follows the record of what moss did.
//
// The log is <root>/events/log: lines of JSON, each written by one write(2) with
// O_APPEND, by whoever did what it tells: moss, a container's monitor, moss-image.
// There is no lock and no fsync; a line begins and ends with a newline, so that
// one that a full disk or a crash cut short spoils no other. At maxSize the log is
// renamed to log.old, in place of the one before.
package event

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/record"
)

// The types of what events are about.
const (
	Container = "container"
	Image     = "image"
	Volume    = "volume"
	Network   = "network"
	Pod       = "pod"
	Secret    = "secret"
	System    = "system"
)

// What may have happened: podman's words.
const (
	Attach       = "attach"
	AutoUpdate   = "auto-update"
	Checkpoint   = "checkpoint"
	Cleanup      = "cleanup"
	Commit       = "commit"
	Connect      = "connect"
	Create       = "create"
	Disconnect   = "disconnect"
	Exec         = "exec"
	ExecDied     = "exec_died"
	Died         = "died"
	Export       = "export"
	HealthStatus = "health_status"
	Import       = "import"
	Init         = "init"
	Kill         = "kill"
	Load         = "loadfromarchive"
	Mount        = "mount"
	OOM          = "oom"
	Pause        = "pause"
	Prune        = "prune"
	Pull         = "pull"
	PullError    = "pull-error"
	Push         = "push"
	Remove       = "remove"
	Rename       = "rename"
	Restart      = "restart"
	Restore      = "restore"
	Save         = "save"
	Snapshot     = "snapshot"
	Start        = "start"
	Stop         = "stop"
	Tag          = "tag"
	Unmount      = "unmount"
	Unpause      = "unpause"
	Untag        = "untag"
	Update       = "update"
)

// Event is one thing that happened.
type Event struct {
	Time   time.Time // zero is now
	Type   string
	Status string
	ID     string // of the container, the image, the network; the name of a volume
	Name   string
	Image  string // of a container, by name
	Pod    string // ID of the pod that a container belongs to
	// Network is which one a container was connected to or disconnected from.
	Network  string
	ExitCode *int   // of died and exec_died
	Health   string // of health_status: starting, healthy, unhealthy, stopped
	// HealthLog is what a check printed, where that was asked for.
	HealthLog string
	Error     string // of what failed
	// Attributes are the labels of a container, and what else there is to say.
	Attributes map[string]string
}

// SessionAttribute is the attribute of exec and exec_died that holds the session's ID.
const SessionAttribute = "execID"

// ByAttribute is the attribute of a stop that says who asked for it, where that was no user.
const ByAttribute = "by"

// appendTo appends the event as the log has it: a line, with a newline before it.
func (e *Event) appendTo(b []byte, now time.Time) []byte {
	at := e.Time
	if at.IsZero() {
		at = now
	}
	b = append(b, "\n{\"Time\":\""...)
	b = at.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	for _, f := range [...]struct{ name, value string }{
		{"Type", e.Type}, {"Status", e.Status}, {"ID", e.ID}, {"Name", e.Name}, {"Image", e.Image},
		{"Pod", e.Pod}, {"Network", e.Network}, {"Health", e.Health}, {"HealthLog", e.HealthLog}, {"Error", e.Error},
	} {
		if f.value != "" {
			b = append(append(append(b, `,"`...), f.name...), `":`...)
			b = record.AppendString(b, f.value)
		}
	}
	if e.ExitCode != nil {
		b = strconv.AppendInt(append(b, `,"ExitCode":`...), int64(*e.ExitCode), 10)
	}
	if len(e.Attributes) > 0 {
		b = appendAttributes(append(b, `,"Attributes":`...), e.Attributes)
	}
	return append(b, "}\n"...)
}

func appendAttributes(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	for i, key := range sorted(m) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(record.AppendString(b, key), ':')
		b = record.AppendString(b, m[key])
	}
	return append(b, '}')
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// String is the event as a person reads it: podman's line. The time is local.
func (e *Event) String() string { return e.line(e.ID) }

// Short is String with the ID cut to twelve digits.
func (e *Event) Short() string { return e.line(e.ID[:min(12, len(e.ID))]) }

func (e *Event) line(id string) string {
	s := e.Time.Local().String() + " " + e.Type + " " + e.Status
	switch {
	case e.Type == Network && e.Network != "":
		return s + " " + id + " (container=" + id + ", name=" + e.Network + ")"
	case e.Type == Image:
		s += " " + id + " " + e.Name
		if e.Error != "" {
			s += " " + e.Error
		}
		return s
	case e.Type != Container && e.Type != Pod:
		return s + " " + e.Name
	}
	s += " " + id + " (image=" + e.Image + ", name=" + e.Name
	if e.Pod != "" {
		s += ", pod_id=" + e.Pod
	}
	if e.ExitCode != nil {
		s += ", exit_code=" + strconv.Itoa(*e.ExitCode)
	}
	if e.Health != "" {
		s += ", health_status=" + e.Health
	}
	if e.HealthLog != "" {
		s += ", health_log=" + strings.TrimSpace(e.HealthLog)
	}
	for _, key := range sorted(e.Attributes) {
		s += ", " + key + "=" + e.Attributes[key]
	}
	return s + ")"
}
