package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
	"moss/rootless"
	"moss/rootless/container"
	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/systemd/quadlet"
)

// UnitApplyCmd is "moss unit apply".
type UnitApplyCmd struct {
	Globals
	DryRun      bool   `help:"Print the plan and do nothing."`
	Application string `help:"Name of the application; that of the directory by default." placeholder:"NAME"`
	NoStart     bool   `help:"Start and restart nothing."`
	Dir         string `arg:"" help:"Directory of quadlet files and what they use."`
}

func (cmd *UnitApplyCmd) prepare() (err error) {
	if cmd.Dir, err = filepath.Abs(cmd.Dir); err != nil {
		return err
	}
	if cmd.Application == "" {
		cmd.Application = filepath.Base(cmd.Dir)
	}
	return (&UnitInstallCmd{Application: cmd.Application}).prepare()
}

// plan is what apply is going to do.
type plan struct {
	to      string
	files   []unitFile // that are new or changed
	all     []string   // the names of all files of the directory
	applied []string   // those that apply has put there until now
	gone    []string   // files below to, which apply has put there
	units   []*quadlet.Unit
	former  []*quadlet.Unit
	states  map[string]systemd.UnitState
	verdict map[string]string        // of each unit, by its name: new, changed, gone, same
	remake  []*quadlet.Unit          // networks whose definition has changed, and volumes that nothing has used
	made    map[*quadlet.Unit]string // what those have made until now, which goes
	unused  func(volume string) bool
	sockets []*quadlet.Unit // whose sockets stop before the files change
	stop    []string        // and the services that do
	start   []string        // after it; those that run are restarted
}

// Run prints the plan, and carries it out.
func (cmd *UnitApplyCmd) Run(ctx context.Context, c *call) error {
	home, err := unitHome()
	if err != nil {
		return err
	}
	if real := quadlet.Real(cmd.Dir); real == home || strings.HasPrefix(real, home+"/") || strings.HasPrefix(home, real+"/") {
		return fmt.Errorf("cannot apply %q: your units are in %s already; apply is for a directory elsewhere", cmd.Dir, home)
	}
	p := &plan{to: filepath.Join(home, cmd.Application), unused: func(name string) bool {
		v, err := c.Engine.Volumes.Get(name)
		return err == nil && v.New
	}}
	if err := p.read(ctx, c, cmd.Dir); err != nil {
		return err
	}
	p.decide(cmd.NoStart)
	if len(p.remake) > 0 {
		all, err := c.Engine.All()
		if err == nil {
			err = p.spares(all)
		}
		if err != nil {
			return err
		}
	}
	p.print(c)
	if cmd.DryRun {
		return nil
	}
	return p.carryOut(ctx, c)
}

// read compares the directory with what is installed.
func (p *plan) read(ctx context.Context, c *call, dir string) error {
	if !isDir(dir) {
		return fmt.Errorf("cannot apply %q: it is no directory", dir)
	}
	if target, err := os.Readlink(p.to); err == nil {
		return fmt.Errorf("cannot apply %q: %s is a link to %s, which apply leaves alone; remove the link first", dir, p.to, target)
	}
	files, err := readUnitDir(dir)
	if err != nil {
		return err
	}
	if err := checkLinks(dir, files); err != nil {
		return err
	}
	if _, err := record.Read(filepath.Join(p.to, appliedFile), &p.applied); err != nil {
		return err
	}
	old, err := readUnitDir(p.to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names := map[string]bool{}
	for _, f := range files {
		names[f.name] = true
	}
	var others []unitFile // of the user's own making: they stay
	for _, f := range old {
		if !names[f.name] && !slices.Contains(p.applied, f.name) {
			others = append(others, f)
		}
	}
	var problems []quadlet.Problem
	if p.units, problems, err = unitsAsIf(files, others, p.to, true); err != nil {
		return err
	}
	if warnUnits(c.Err, problems) {
		return fmt.Errorf("cannot apply %q: there are errors in its files", dir)
	}
	if len(p.units) == 0 {
		return fmt.Errorf("cannot apply %q: there is no quadlet file in it", dir)
	}
	if err := p.compare(dir, files, old, names); err != nil {
		return err
	}
	p.states, err = unitStates(ctx, slices.Concat(p.former, p.units))
	return err
}

// compare finds which of the files, whose names are given too, are new or changed, and
// which old ones are gone; what apply has not put there is in the way.
func (p *plan) compare(dir string, files, old []unitFile, names map[string]bool) error {
	for _, f := range files {
		p.all = append(p.all, f.name)
		if f.same(p.to) {
			continue
		}
		if path := filepath.Join(p.to, f.name); exists(path) && !slices.Contains(p.applied, f.name) {
			return fmt.Errorf("cannot apply %q: %q is another file, which apply has not put there; move it away first", dir, path)
		}
		p.files = append(p.files, f)
	}
	for _, f := range old {
		if !names[f.name] && slices.Contains(p.applied, f.name) {
			p.gone = append(p.gone, f.name)
		}
	}
	for _, u := range quadlet.Load(unitDirs()).Convert(self()) {
		name, below := strings.CutPrefix(u.Source.Path, p.to+"/")
		if below && (names[name] || slices.Contains(p.gone, name)) {
			p.former = append(p.former, u)
		}
	}
	return nil
}

// appliedFile is where an application's directory says which files apply has put there:
// those alone are removed when they are gone from where they come from.
const appliedFile = ".moss-applied"

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// spares makes sure that no network is made anew which a container uses that goes on.
func (p *plan) spares(all []*container.Container) error {
	for _, u := range p.remake {
		if u.Source.Kind() != "Network" {
			continue
		}
		for _, user := range rootless.NetworkUsers(all, p.made[u]) {
			if !slices.Contains(p.stop, user.Spec.Labels[rootless.UnitLabel]) {
				return fmt.Errorf("cannot make network %q anew, as %s wants: container %q, which is none of these units', uses it", p.made[u], u.Source.Name, user.Spec.Name)
			}
		}
	}
	return nil
}

// clear removes what is to be made anew, unless it is used by now.
func (p *plan) clear(ctx context.Context, c *call) error {
	for _, u := range p.remake {
		name := p.made[u]
		if u.Source.Kind() == "Network" {
			if err := c.Engine.RemoveNetwork(ctx, name); err != nil && !isNotFound(err) {
				return err
			}
			continue
		}
		v, err := c.Engine.Volumes.Get(name)
		if err != nil || !v.New { // it is gone, or holds data by now
			continue
		}
		all, err := c.Engine.All()
		if err != nil {
			return err
		}
		if err := c.Engine.RemoveVolume(v, all, false); err != nil {
			return err
		}
	}
	return nil
}

// runs says whether a unit is up, or on its way.
func (p *plan) runs(name string) bool {
	s := p.states[name].Active
	return s == "active" || s == "activating" || s == "reloading"
}

// decide says what becomes of each unit.
func (p *plan) decide(noStart bool) {
	p.verdict, p.made = map[string]string{}, map[*quadlet.Unit]string{}
	former := map[string]*quadlet.Unit{}
	for _, u := range p.former {
		former[u.Name] = u
	}
	for _, u := range p.units {
		old := former[u.Name]
		switch {
		case old == nil:
			p.verdict[u.Name] = "new"
		case old.Text() != u.Text() || p.usesChanged(u):
			p.verdict[u.Name] = "changed"
			made := old.Made()
			if noStart || old.Text() == u.Text() || made == "" || strings.Contains(made, "%") {
				continue // without a start nothing would make it again
			}
			if u.Source.Kind() == "Network" || u.Source.Kind() == "Volume" && p.unused(made) {
				p.remake = append(p.remake, u)
				p.made[u] = made
			}
		default:
			p.verdict[u.Name] = "same"
		}
	}
	for _, u := range p.former {
		if p.verdict[u.Name] == "" {
			p.verdict[u.Name] = "gone"
			p.sockets = append(p.sockets, u)
			if p.runs(u.Name) {
				p.stop = append(p.stop, u.Name)
			}
		} else if p.verdict[u.Name] == "changed" && !noStart { // nothing would start it again
			p.sockets = append(p.sockets, u)
		}
	}
	for _, u := range p.units {
		remade := slices.ContainsFunc(p.remake, func(n *quadlet.Unit) bool { return n == u || requires(u, n.Name) })
		if remade && p.runs(u.Name) {
			p.stop = append(p.stop, u.Name)
		}
		switch wanted := len(u.Links()) > 0 || u.Socket != nil; {
		case noStart || strings.Contains(u.Name, "@."):
		case p.verdict[u.Name] == "same" && !remade:
		case p.runs(u.Name), wanted && p.verdict[u.Name] != "same", p.states[u.Name].Active == "failed":
			p.start = append(p.start, u.Name)
		}
	}
}

// requires says whether a unit needs a service.
func requires(u *quadlet.Unit, service string) bool {
	return slices.ContainsFunc(u.Requires(), func(name string) bool { return name == service })
}

// usesChanged says whether a unit's command lines name a file that changes, or a
// directory that it is in.
func (p *plan) usesChanged(u *quadlet.Unit) bool {
	text := strings.NewReplacer("%%", "%", "$$", "$").Replace(u.Text())
	for _, f := range p.files {
		if quadlet.IsQuadlet(f.name) || strings.HasSuffix(filepath.Dir(f.name), ".d") {
			continue // what it changes is in the service
		}
		for path := filepath.Join(p.to, f.name); path != p.to; path = filepath.Dir(path) {
			if names(text, path) {
				return true
			}
		}
	}
	return false
}

// names says whether a path stands in a text, and not only the beginning of another's.
func names(text, path string) bool {
	for {
		_, after, found := strings.Cut(text, path)
		if !found || after == "" || strings.IndexByte(":,=;\"' \t\n\\", after[0]) >= 0 {
			return found
		}
		text = after
	}
}

func (p *plan) print(c *call) {
	rows := [][3]string{}
	for _, u := range slices.Concat(p.units, p.former) {
		verdict := p.verdict[u.Name]
		if slices.ContainsFunc(rows, func(r [3]string) bool { return r[1] == u.Name }) {
			continue
		}
		does := ""
		starts, stops := slices.Contains(p.start, u.Name), slices.Contains(p.stop, u.Name)
		switch {
		case starts && p.runs(u.Name):
			does = "restart"
		case starts:
			does = "start"
		case stops:
			does = "stop"
		}
		switch {
		case slices.Contains(p.remake, u):
			does = strings.TrimPrefix(does+", remove the "+strings.ToLower(u.Source.Kind())+" and make it anew", ", ")
		case u.Source.Kind() == "Volume" && verdict == "changed":
			does = "keep the volume, with its data, as it is; 'moss volume rm " + u.Resource + "' first has it made anew"
		case u.Source.Kind() == "Network" && verdict == "changed" && does == "":
			does = "keep the network as it is"
		}
		if verdict == "same" && does == "" {
			continue
		}
		rows = append(rows, [3]string{verdict, u.Name, does})
	}
	for _, f := range p.files {
		if !quadlet.IsQuadlet(f.name) {
			verdict := "changed"
			if _, err := os.Lstat(filepath.Join(p.to, f.name)); err != nil {
				verdict = "new"
			}
			rows = append(rows, [3]string{verdict, f.name, ""})
		}
	}
	for _, name := range p.gone {
		if !quadlet.IsQuadlet(name) {
			rows = append(rows, [3]string{"gone", name, ""})
		}
	}
	for _, r := range rows {
		fmt.Fprintln(c.Out, strings.TrimRight(fmt.Sprintf("%-8s  %-32s  %s", r[0], r[1], r[2]), " "))
	}
	if len(rows) == 0 {
		fmt.Fprintln(c.Out, "nothing to do")
	}
}

// carryOut does it: images first, outside of any timeout of a unit; then what must
// stop; the files; the service manager; what must start.
func (p *plan) carryOut(ctx context.Context, c *call) error {
	for _, u := range p.units {
		if slices.Contains(p.start, u.Name) {
			if err := pullFor(ctx, u); err != nil {
				return err
			}
		}
	}
	sockets, err := activeSockets(ctx, p.sockets)
	if err != nil {
		return err
	}
	again := func(err error) error { // the files are as before: so is what runs
		return errors.Join(err, restartUnits(context.WithoutCancel(ctx), slices.Concat(sockets, p.stop)))
	}
	if err := stopUnits(ctx, sockets); err != nil {
		return again(err)
	}
	if err := stopUnits(ctx, p.stop); err != nil {
		return again(err)
	}
	if err := p.clear(ctx, c); err != nil {
		return again(err)
	}
	if err := p.note(slices.Concat(p.all, p.gone)); err != nil { // before they are there
		return again(err)
	}
	if err := writeAll(p.files, p.to); err != nil {
		return again(errors.Join(err, p.note(p.applied)))
	}
	// From here on it is the new files that count: what has stopped starts with them,
	// whatever else goes wrong.
	err = p.removeGone()
	if len(p.files)+len(p.gone) > 0 {
		err = errors.Join(err, c.reloadUnits(ctx))
	}
	return errors.Join(err, p.startAll(ctx))
}

// removeGone removes the files that are gone, which are apply's no longer then.
func (p *plan) removeGone() error {
	if len(p.gone) == 0 {
		return nil
	}
	var errs []error
	left := p.all
	for _, name := range p.gone {
		path := filepath.Join(p.to, name)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("cannot remove unit file %q: %w", path, errors.Unwrap(err)))
			left = append(slices.Clip(left), name)
		}
		_ = os.Remove(filepath.Dir(path)) // if it is empty
	}
	return errors.Join(append(errs, p.note(left))...)
}

// startAll starts what must start, and restarts what runs of it.
func (p *plan) startAll(ctx context.Context) error {
	if len(p.start) == 0 || cgroup.ManagerSocket() == "" {
		return nil
	}
	var sleepers, start []string // the first client starts those with a socket
	for _, name := range p.start {
		i := slices.IndexFunc(p.units, func(u *quadlet.Unit) bool { return u.Name == name })
		if i >= 0 && p.units[i].Socket != nil {
			sleepers, name = append(sleepers, name), p.units[i].Socket.Name
		}
		start = append(start, name)
	}
	return errors.Join(stopUnits(ctx, sleepers), restartUnits(ctx, start))
}

// note writes down which files are apply's.
func (p *plan) note(names []string) error {
	if err := os.MkdirAll(p.to, 0o755); err != nil {
		return err
	}
	return record.Write(filepath.Join(p.to, appliedFile), names, false)
}

// pullFor gets the image of a unit, as its service would.
func pullFor(ctx context.Context, u *quadlet.Unit) error {
	i := slices.IndexFunc(u.Commands, func(c quadlet.Command) bool { return c.Key == "ExecStart" })
	if i < 0 {
		return nil
	}
	words := u.Commands[i].Args[1:]
	if u.Source.Kind() == "Image" {
		args := make([]string, len(words))
		for i, w := range words {
			args[i] = w.Text
		}
		if strings.ContainsAny(strings.Join(args, ""), "%$") {
			return nil // the service manager puts something in
		}
		return moss(ctx, args...)
	}
	image := u.Source.Value("Container", "Image")
	policy := or(u.Source.Value("Container", "Pull"), "missing")
	if image == "" || rootless.IsBuiltin(image) || policy == "never" || strings.ContainsAny(image, "%$") || quadlet.IsQuadlet(image) {
		return nil
	}
	args := []string{"pull", "--quiet", "--policy", policy}
	for i, w := range words {
		name, _, joined := strings.Cut(w.Text, "=")
		if w.From == nil || !slices.Contains([]string{"PodmanArgs", "Retry", "RetryDelay"}, w.From.Key) ||
			!slices.Contains([]string{"--tls-verify", "--authfile", "--cert-dir", "--creds", "--retry", "--retry-delay"}, name) {
			continue
		}
		if args = append(args, w.Text); !joined && i+1 < len(words) && name != "--tls-verify" {
			args = append(args, words[i+1].Text)
		}
	}
	return moss(ctx, append(args, image)...)
}

// moss runs another command of moss, which tells the user itself what goes wrong.
func moss(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, self(), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exitWith(exit.ExitCode())
		}
		return err
	}
	return nil
}
