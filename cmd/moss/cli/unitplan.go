package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
	"moss/rootless"
	"moss/rootless/container"
	"moss/systemd/quadlet"
)

// plan is what apply is going to do.
type plan struct {
	to      string
	files   []unitFile // that are new or changed
	all     []string   // the names of all files of the directory
	applied []string   // those that apply has put there until now
	gone    []string   // files below to, which apply has put there
	scraps  []string   // and what writes of an apply that was killed have left
	units   []*quadlet.Unit
	former  []*quadlet.Unit
	states  *unitStates
	begun   []string                 // the services that an apply which was interrupted had still to start
	resumes bool                     // there was one
	verdict map[string]string        // of each unit, by its name: new, changed, gone, same
	remake  []*quadlet.Unit          // networks whose definition has changed, and volumes that nothing has used
	made    map[*quadlet.Unit]string // what those have made until now, which goes
	unused  func(volume string) bool
	sockets []*quadlet.Unit // whose sockets stop before the files change
	stop    []string        // and the services that do
	start   []string        // after it; those that run are restarted
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
	if err := p.recall(); err != nil {
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
		switch of := record.Unfinished(f.name); {
		case of == appliedFile || of == applyingFile || names[of] || slices.Contains(p.applied, of):
			p.scraps = append(p.scraps, f.name)
		case !names[f.name] && !slices.Contains(p.applied, f.name):
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
	return p.compare(ctx, dir, files, old, names)
}

// recall reads what earlier applies have left.
func (p *plan) recall() (err error) {
	if _, err := record.Read(filepath.Join(p.to, appliedFile), &p.applied); err != nil {
		return err
	}
	p.resumes, err = record.Read(filepath.Join(p.to, applyingFile), &p.begun)
	return err
}

// compare finds which of the files, whose names are given too, are new or changed, and
// which old ones are gone; what apply has not put there is in the way.
func (p *plan) compare(ctx context.Context, dir string, files, old []unitFile, names map[string]bool) (err error) {
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
	all, err := userUnits()
	if err != nil {
		return err
	}
	for _, u := range all {
		name, below := strings.CutPrefix(u.Source.Path, p.to+"/")
		if below && (names[name] || slices.Contains(p.gone, name)) {
			p.former = append(p.former, u)
		}
	}
	p.states, err = statesOf(ctx, slices.Concat(all, p.units))
	return err
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

// decide says what becomes of each unit.
func (p *plan) decide(noStart bool) {
	p.begun = slices.DeleteFunc(p.begun, func(name string) bool {
		return !slices.ContainsFunc(p.units, func(u *quadlet.Unit) bool { return isOf(name, u) })
	})
	p.judge(noStart)
	for _, u := range p.former {
		if p.verdict[u.Name] == "" {
			p.verdict[u.Name] = "gone"
			p.sockets = append(p.sockets, u)
			p.stop = append(p.stop, p.states.up(u)...)
		} else if p.verdict[u.Name] == "changed" && !noStart { // nothing would start it again
			p.sockets = append(p.sockets, u)
		}
	}
	for _, u := range p.units {
		up, start := p.states.up(u), p.states.services(u, "failed")
		remade := slices.ContainsFunc(p.remake, func(n *quadlet.Unit) bool { return n == u || slices.Contains(u.Requires(), n.Name) })
		if remade {
			p.stop = append(p.stop, up...)
		}
		if remade || p.verdict[u.Name] != "same" {
			start = append(start, up...)
		}
		if name := wanted(u); name != "" && p.verdict[u.Name] != "same" {
			start = append(start, name)
		}
		for _, name := range p.begun {
			if isOf(name, u) {
				start = append(start, name)
			}
		}
		if noStart {
			continue
		}
		slices.Sort(start)
		for _, name := range start {
			if !slices.Contains(p.start, name) {
				p.start = append(p.start, name)
			}
		}
	}
}

// judge compares each unit with what it was, and says which resources are made anew.
func (p *plan) judge(noStart bool) {
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
}

// wanted is the service that [Install] of a unit has started, of a template its default
// instance; "" if it has none.
func wanted(u *quadlet.Unit) string {
	if !isTemplate(u) {
		if len(u.Links()) > 0 || u.Socket != nil {
			return u.Name
		}
		return ""
	}
	if l := u.Line("Install", "DefaultInstance"); l != nil && l.Value != "" && len(u.Links()) > 0 {
		return instance(u, l.Value)
	}
	return ""
}

// isOf says whether a service is a unit's, or an instance of it.
func isOf(service string, u *quadlet.Unit) bool {
	prefix, _, is := strings.Cut(service, "@")
	return service == u.Name || is && isTemplate(u) && prefix+"@.service" == u.Name
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
	var rows [][3]string
	for _, u := range slices.Concat(p.units, p.former) {
		for _, r := range p.rows(u) {
			if !slices.ContainsFunc(rows, func(o [3]string) bool { return o[1] == r[1] }) {
				rows = append(rows, r)
			}
		}
	}
	for _, f := range p.files {
		if !quadlet.IsQuadlet(f.name) {
			verdict := "changed"
			if !exists(filepath.Join(p.to, f.name)) {
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
	if p.resumes {
		fmt.Fprintln(c.Out, "an earlier apply was interrupted, or failed; this one ends it")
	} else if len(rows) == 0 {
		fmt.Fprintln(c.Out, "nothing to do")
	}
	for _, r := range rows {
		fmt.Fprintln(c.Out, strings.TrimRight(fmt.Sprintf("%-8s  %-32s  %s", r[0], r[1], r[2]), " "))
	}
}

// rows are what the plan says of a unit: what it is now, its service, and what becomes
// of that. A template has a row for each instance with which something is done.
func (p *plan) rows(u *quadlet.Unit) (rows [][3]string) {
	verdict := p.verdict[u.Name]
	up := p.states.up(u)
	names := slices.Concat(p.start, p.stop)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !isOf(name, u) || name != u.Name && p.verdict[name] != "" {
			continue
		}
		does := "start"
		switch {
		case !slices.Contains(p.start, name):
			does = "stop"
		case slices.Contains(up, name):
			does = "restart"
		}
		rows = append(rows, [3]string{verdict, name, does})
	}
	if len(rows) == 0 {
		rows = [][3]string{{verdict, u.Name, ""}}
	}
	does := &rows[0][2]
	switch kind := u.Source.Kind(); {
	case slices.Contains(p.remake, u):
		*does = strings.TrimPrefix(*does+", remove the "+strings.ToLower(kind)+" and make it anew", ", ")
	case kind == "Volume" && verdict == "changed":
		*does = "keep the volume, with its data, as it is; 'moss volume rm " + u.Resource + "' first has it made anew"
	case kind == "Network" && verdict == "changed" && *does == "":
		*does = "keep the network as it is"
	}
	if verdict == "same" && *does == "" {
		return nil
	}
	return rows
}
