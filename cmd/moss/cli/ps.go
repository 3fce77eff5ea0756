package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
	"moss/slirp"
	"moss/storage/image"
)

// row is one container of a listing, looked at once.
type row struct {
	container *container.Container
	view      container.View
}

func (r *row) hasExited() bool { return r.view.Last != nil && r.view.Status == container.StatusExited }

// rows looks at every container that passes the filters, oldest first.
func (c *call) rows(f filters) ([]*row, error) {
	all, err := c.Engine.All()
	if err != nil {
		return nil, err
	}
	at, err := f.resolve(c)
	if err != nil {
		return nil, err
	}
	var out []*row
	views, images := rootless.Look(all), &imageCache{c: c}
	for i, ctr := range all {
		r := &row{ctr, views[i]}
		if f.matches(r, at, images) {
			out = append(out, r)
		}
	}
	return out, nil
}

// external are the containers of other programs that pass the filters.
func (c *call) external(f filters) (out []*row, err error) {
	at, err := f.resolve(c)
	if err != nil {
		return nil, err
	}
	images := &imageCache{c: c}
	for _, ctr := range c.Engine.External() {
		r := &row{ctr, container.View{Status: rootless.StatusStorage}}
		if f.matches(r, at, images) {
			out = append(out, r)
		}
	}
	return out, nil
}

// PsCmd is "moss ps".
type PsCmd struct {
	Globals
	All       bool     `short:"a" help:"List those that do not run too."`
	External  bool     `help:"List the containers of buildah and podman in the stores of images, too."`
	Filter    []string `short:"f" sep:"none" help:"List those that match." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Last      *int     `short:"n" help:"List the last N created, whether they run or not." placeholder:"N"`
	Latest    bool     `short:"l" help:"List the last one created, whether it runs or not."`
	Namespace bool     `name:"ns" aliases:"namespace" help:"Show the namespaces."`
	NoTrunc   bool     `help:"Show IDs and commands in full."`
	Noheading bool     `help:"Leave the header line out."`
	Pod       bool     `short:"p" help:"Show the pods; moss has none, so that the columns are empty."`
	Quiet     bool     `short:"q" help:"Show IDs only."`
	Size      bool     `short:"s" help:"Show how much each has written, and the size of its image with it."`
	Sort      string   `words:"command created id image names runningfor size status" help:"Sort by command, created, id, image, names, runningfor, size or status." placeholder:"KEY"`
	Sync      bool     `help:"Look at the processes themselves, as it is done always."`
	Watch     *uint    `short:"w" help:"List again every N seconds." placeholder:"N"`

	filters filters
}

func (cmd *PsCmd) prepare() (err error) {
	if cmd.filters, err = parseFilters("filter", cmd.Filter, containerFilters); err != nil {
		return err
	}
	v := &flagValues{grammar: reflect.TypeFor[PsCmd]()}
	v.one("sort", cmd.Sort, oneOf("command", "created", "id", "image", "names", "runningfor", "size", "status"))
	v.check(cmd.Quiet && (cmd.Size || cmd.Namespace), "--quiet cannot be combined with --size or --ns")
	v.check(cmd.Size && cmd.Namespace, "--size cannot be combined with --ns")
	v.check(cmd.Last != nil && cmd.Latest, "--last cannot be combined with --latest")
	v.check(cmd.Last != nil && *cmd.Last < 0, "invalid value for flag -n, --last: it is negative")
	v.check(cmd.Watch != nil && *cmd.Watch == 0, "invalid value for flag -w, --watch: want at least one second")
	return v.err
}

// interruptible: it goes on until then.
func (cmd *PsCmd) interruptible() bool { return cmd.Watch != nil }

// Run lists the containers, with --watch again and again.
func (cmd *PsCmd) Run(ctx context.Context, c *call) error {
	if cmd.Watch == nil {
		return cmd.list(c)
	}
	tick := time.NewTicker(time.Duration(*cmd.Watch) * time.Second) // what the user asked for
	defer tick.Stop()
	for {
		if out, ok := c.Out.(*os.File); ok && isTerminal(out) {
			fmt.Fprint(c.Out, "\x1b[2J\x1b[H") // clear; see console_codes(4)
		}
		if err := cmd.list(c); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // interrupted: that is how it ends
		case <-tick.C:
		}
	}
}

// list reads one small file of each container, and no image unless it must.
func (cmd *PsCmd) list(c *call) error {
	rows, err := c.rows(cmd.filters)
	if err != nil {
		return err
	}
	rows = cmd.choose(rows)
	if cmd.External {
		external, err := c.external(cmd.filters)
		if err != nil {
			return err
		}
		rows = append(rows, external...)
	}
	list := make([]psRow, len(rows))
	images := imageCache{c: c}
	for i, r := range rows {
		list[i] = psRow{row: r, images: &images, full: cmd.NoTrunc, size: cmd.Size || cmd.Sort == "size", ns: cmd.Namespace}
	}
	cmd.sort(list)
	return cmd.print(c, list)
}

// choose leaves out what --all, --last and --latest do not ask for.
func (cmd *PsCmd) choose(rows []*row) []*row {
	last := 0
	if cmd.Latest {
		last = 1
	} else if cmd.Last != nil {
		last = *cmd.Last
	}
	if last > 0 {
		return rows[max(0, len(rows)-last):]
	}
	_, byStatus := cmd.filters["status"]
	_, byExit := cmd.filters["exited"]
	if cmd.All || byStatus || byExit {
		return rows
	}
	return slices.DeleteFunc(rows, func(r *row) bool {
		return r.view.Status != container.StatusRunning && r.view.Status != container.StatusPaused && r.view.Status != container.StatusRestarting && !r.view.Waiting()
	})
}

func (cmd *PsCmd) sort(list []psRow) {
	key := map[string]func(a, b psRow) int{
		"command":    func(a, b psRow) int { return cmp.Compare(a.Command(), b.Command()) },
		"id":         func(a, b psRow) int { return cmp.Compare(a.container.Spec.ID, b.container.Spec.ID) },
		"image":      func(a, b psRow) int { return cmp.Compare(a.Image(), b.Image()) },
		"names":      func(a, b psRow) int { return cmp.Compare(a.Names(), b.Names()) },
		"runningfor": func(a, b psRow) int { return a.started().Compare(b.started()) },
		"size":       func(a, b psRow) int { return cmp.Compare(a.sizes().rw, b.sizes().rw) },
		"status":     func(a, b psRow) int { return cmp.Compare(a.State(), b.State()) },
	}[cmd.Sort]
	if key != nil { // otherwise by time of creation, as they are
		slices.SortStableFunc(list, key)
	}
}

func (cmd *PsCmd) print(c *call, list []psRow) error {
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range list {
			fmt.Fprintln(c.Out, r.ID())
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Headers: psHeaders, Columns: []format.Column{
		{Header: "CONTAINER ID", Cell: ".ID"}, {Header: "IMAGE", Cell: ".Image"}, {Header: "COMMAND", Cell: ".Command"},
		{Header: "CREATED", Cell: ".RunningFor"}, {Header: "STATUS", Cell: ".Status"}, {Header: "PORTS", Cell: ".Ports"},
		{Header: "NAMES", Cell: ".Names"},
	}}
	switch {
	case cmd.Namespace:
		table.Columns = []format.Column{
			{Header: "CONTAINER ID", Cell: ".ID"}, {Header: "NAMES", Cell: ".Names"}, {Header: "PID", Cell: ".Pid"},
			{Header: "CGROUPNS", Cell: ".CGROUPNS"}, {Header: "IPC", Cell: ".IPC"}, {Header: "MNT", Cell: ".MNT"},
			{Header: "NET", Cell: ".NET"}, {Header: "PIDNS", Cell: ".PIDNS"}, {Header: "USERNS", Cell: ".USERNS"}, {Header: "UTS", Cell: ".UTS"},
		}
	case cmd.Size:
		table.Columns = append(table.Columns, format.Column{Header: "SIZE", Cell: ".Size"})
	}
	if cmd.Pod {
		table.Columns = append(table.Columns, format.Column{Header: "POD ID", Cell: ".Pod"}, format.Column{Header: "PODNAME", Cell: ".PodName"})
	}
	asJSON := make([]psJSON, 0, len(list))
	if cmd.Format == "json" {
		for _, r := range list {
			asJSON = append(asJSON, r.json())
		}
	}
	return table.Print(c.Out, cmd.Format, list, asJSON)
}

// psHeaders are the headers of fields whose name does not say it.
var psHeaders = map[string]string{
	"RunningFor": "CREATED", "ImageID": "IMAGE ID", "CreatedHuman": "CREATED", "CreatedAt": "CREATED AT",
	"ID": "CONTAINER ID", "Created": "CREATED", "Pod": "POD ID", "PodName": "PODNAME",
}

// imageCache reads each image's record once.
type imageCache struct {
	c    *call
	have map[string]*image.Image
}

func (i *imageCache) get(id string) *image.Image {
	if i.have == nil {
		i.have = map[string]*image.Image{}
	}
	img, ok := i.have[id]
	if !ok && id != "" {
		img, _ = i.c.Engine.Images.Lookup(id) // nil: it is gone
		i.have[id] = img
	}
	return img
}

// psRow is a container as templates of ps see it: every method is a field with
// podman's name.
type psRow struct {
	*row
	images *imageCache
	full   bool
	size   bool
	ns     bool
}

// ID is shortened unless --no-trunc is given.
func (r psRow) ID() string {
	if r.full {
		return r.container.Spec.ID
	}
	return format.ShortID(r.container.Spec.ID)
}

// Image is the full name of the image, or its ID when it has none any more.
func (r psRow) Image() string { return imageName(&r.container.Spec, r.images.get) }

// imageName completes the name that the container was created with.
func imageName(s *container.Spec, get func(string) *image.Image) string {
	if s.Rootfs.Path != "" {
		return s.Rootfs.Path
	}
	ref, err := image.Parse(s.Image.Name)
	if err == nil && ref.Registry != "" {
		return ref.Complete().String()
	}
	img := get(s.Image.ID)
	if img == nil {
		return s.Image.Name
	}
	suffix := "/" + ref.Repository + ":" + ref.Complete().Tag
	for _, name := range img.Names {
		if err == nil && strings.HasSuffix(name, suffix) {
			return name
		}
	}
	if len(img.Names) > 0 {
		return img.Names[0]
	}
	return format.ShortID(img.ID)
}

// ImageID is shortened unless --no-trunc is given.
func (r psRow) ImageID() string {
	if r.full {
		return r.container.Spec.Image.ID
	}
	return format.ShortID(r.container.Spec.Image.ID)
}

// Command is the command line without the entry point, as podman shows it.
func (r psRow) Command() string {
	s := strings.Join(r.command(), " ")
	if r.full {
		return s
	}
	return format.Cut(s, 17)
}

func (r psRow) command() []string { return commandOf(&r.container.Spec, r.images.get) }

// commandOf takes the entry point from the arguments.
func commandOf(s *container.Spec, get func(string) *image.Image) []string {
	p := s.Process
	entry := len(p.Entrypoint)
	if p.Entrypoint == nil {
		if img := get(s.Image.ID); img != nil {
			entry = len(img.Config.Entrypoint)
		}
	}
	if entry >= len(p.Args) {
		return p.Args
	}
	return p.Args[entry:]
}

// Created and CreatedAt say when the container was created, as Go prints a time;
// CreatedHuman and RunningFor how long ago that is.
func (r psRow) Created() string      { return r.container.Spec.Created.UTC().Round(0).String() }
func (r psRow) CreatedAt() string    { return r.Created() }
func (r psRow) CreatedHuman() string { return format.Ago(r.container.Spec.Created) }
func (r psRow) RunningFor() string   { return r.CreatedHuman() }

// timeLayout is how podman and Docker print a time.
const timeLayout = "2006-01-02 15:04:05 -0700 MST"

// State is the status in one word, Status what became of it.
func (r psRow) State() string { return string(r.view.Status) }
func (r psRow) Status() string {
	switch r.view.Status {
	case container.StatusRunning:
		up := "Up " + format.Duration(time.Since(r.started()))
		if health := r.Health(); health != "" {
			up += " (" + health + ")"
		}
		return up
	case container.StatusExited:
		if r.view.Last.Finished.IsZero() {
			return fmt.Sprintf("Exited (%d)", r.view.Last.ExitCode)
		}
		return fmt.Sprintf("Exited (%d) %s", r.view.Last.ExitCode, format.Ago(r.view.Last.Finished))
	}
	if r.view.Waiting() {
		return "Waiting for a connection"
	}
	word := string(r.view.Status)
	return strings.ToUpper(word[:1]) + word[1:]
}

// Health is what the health checks say of a container that runs; empty without any.
func (r psRow) Health() string {
	if r.view.Live == nil {
		return ""
	}
	return r.row.health()
}

// health is what the checks of the last run said.
func (r *row) health() string {
	state, err := rootless.Health(r.container, r.view)
	if err != nil || state == nil {
		return ""
	}
	return state.Status
}

func (r psRow) started() time.Time {
	switch {
	case r.view.Live != nil:
		return r.view.Live.Started
	case r.view.Last != nil:
		return r.view.Last.Started
	}
	return time.Time{}
}

// Ports are the published ports, then the exposed ones.
func (r psRow) Ports() string {
	var out []string
	ports := r.ports()
	for _, p := range ports {
		out = append(out, syntax.ShowPort(p))
	}
	for _, exposed := range r.container.Spec.Network.Exposed {
		if !slices.ContainsFunc(ports, func(p slirp.Port) bool { return publishes(p, exposed) }) {
			out = append(out, exposed)
		}
	}
	return strings.Join(out, ", ")
}

func (r psRow) ports() []slirp.Port {
	if r.view.Live != nil && r.view.Live.Network != nil {
		return r.view.Live.Network.Ports
	}
	return r.container.Spec.Network.Ports
}

// publishes says whether p publishes "80/tcp".
func publishes(p slirp.Port, exposed string) bool {
	for n := 0; n < int(max(p.Count, 1)); n++ {
		if fmt.Sprintf("%d/%s", int(p.ContainerPort)+n, p.Proto) == exposed {
			return true
		}
	}
	return false
}

func (r psRow) Names() string { return r.container.Spec.Name }

// Labels are all of them; Label is one.
func (r psRow) Labels() map[string]string { return r.container.Spec.Labels }
func (r psRow) Label(key string) string   { return r.container.Spec.Labels[key] }

// Mounts are the places in the container where volumes and paths are mounted.
func (r psRow) Mounts() []string {
	out := []string{}
	for _, m := range r.container.Spec.Rootfs.Mounts {
		out = append(out, m.Target)
	}
	return out
}

// Networks are the names of the networks.
func (r psRow) Networks() string { return strings.Join(networkNames(&r.container.Spec), ",") }

func networkNames(s *container.Spec) []string {
	names := []string{}
	for _, n := range s.Network.Networks {
		names = append(names, n.Name)
	}
	if len(names) == 0 && s.Network.Mode == "bridge" {
		names = append(names, slirp.DefaultName)
	}
	return names
}

// Pid is 0 when the container does not run.
func (r psRow) Pid() int {
	if r.view.Live == nil || r.view.Status == container.StatusRestarting {
		return 0
	}
	return r.view.Live.PID
}

func (r psRow) Restarts() int {
	switch {
	case r.view.Live != nil:
		return r.view.Live.Restarts
	case r.view.Last != nil:
		return r.view.Last.Restarts
	}
	return 0
}

func (r psRow) ExitCode() int {
	if r.hasExited() {
		return r.view.Last.ExitCode
	}
	return 0
}
func (r psRow) Exited() bool { return r.hasExited() }

// ExitedAt and StartedAt are in seconds since the epoch; what has not happened was,
// as with podman, in the year 1.
func (r psRow) ExitedAt() int64 {
	if !r.hasExited() {
		return time.Time{}.Unix()
	}
	return r.view.Last.Finished.Unix()
}
func (r psRow) StartedAt() int64 { return r.started().Unix() }
func (r psRow) AutoRemove() bool { return r.container.Spec.Lifecycle.AutoRemove }
func (r psRow) Pod() string      { return r.container.Spec.Pod }
func (r psRow) PodName() string  { return "" }
func (r psRow) IsInfra() bool    { return false }
func (r psRow) CIDFile() string  { return r.container.Spec.Lifecycle.CIDFile }
