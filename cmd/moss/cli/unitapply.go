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

// Run prints the plan, and carries it out.
func (cmd *UnitApplyCmd) Run(ctx context.Context, c *call) error {
	home, err := unitHome()
	if err != nil {
		return err
	}
	if real := quadlet.Real(cmd.Dir); real == home || strings.HasPrefix(real, home+"/") || strings.HasPrefix(home, real+"/") {
		return fmt.Errorf("cannot apply %q: your units are in %s already; apply is for a directory elsewhere", cmd.Dir, home)
	}
	done, err := c.turn(ctx, cmd.Application)
	if err != nil {
		return fmt.Errorf("cannot apply %q: %w", cmd.Dir, err)
	}
	defer done()
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

// turn waits until no other command changes the files of the applications.
func (c *call) turn(ctx context.Context, applications ...string) (done func(), err error) {
	var held []func()
	done = func() {
		for _, unlock := range held {
			unlock()
		}
	}
	for _, name := range slices.Sorted(slices.Values(applications)) { // or two would wait for each other
		locked := make(chan error, 1)
		go func() { // ends with moss
			unlock, err := record.Lock(filepath.Join(c.Dirs.Run, "apply-"+name+".lock"))
			if err == nil {
				held = append(held, unlock)
			}
			locked <- err
		}()
		select {
		case err = <-locked:
		case <-ctx.Done():
			return nil, fmt.Errorf("another command changes application %q: %w", name, ctx.Err())
		}
		if err != nil {
			done()
			return nil, err
		}
	}
	return done, nil
}

// appliedFile is where an application's directory says which files apply has put there:
// those alone are removed when they are gone from where they come from.
const appliedFile = ".moss-applied"

// applyingFile is there while an apply stops, writes and starts: the names of the
// services that are to run in the end. It stays where the services could not be made. An
// apply that finds it ends what another began: none goes on beside it.
const applyingFile = ".moss-applying"

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
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

// carryOut does it: images first, outside of any timeout of a unit; then what must
// stop; the files; the service manager; what must start. It may be interrupted at any
// time: the next apply goes on.
func (p *plan) carryOut(ctx context.Context, c *call) error {
	for _, name := range p.scraps {
		_ = os.Remove(filepath.Join(p.to, name)) // nobody reads it
	}
	if len(p.files)+len(p.gone)+len(p.stop)+len(p.start) == 0 && !p.resumes && slices.Equal(p.applied, p.all) {
		return nil
	}
	for _, u := range p.units {
		if slices.ContainsFunc(p.start, func(name string) bool { return isOf(name, u) }) {
			if err := pullFor(ctx, u); err != nil {
				return err
			}
		}
	}
	sockets, err := activeSockets(ctx, p.sockets)
	if err != nil {
		return err
	}
	if err := p.write(applyingFile, slices.Concat(p.start, p.begun)); err != nil {
		return err
	}
	if err := p.change(ctx, c, sockets); err != nil { // the files are as before: so is what runs
		rerr := restartUnits(context.WithoutCancel(ctx), slices.Concat(sockets, p.stop))
		if rerr == nil {
			rerr = p.ended(p.begun, !p.resumes)
		}
		return errors.Join(err, rerr)
	}
	// From here on it is the new files that count: what has stopped starts with them,
	// whatever else goes wrong.
	err = p.removeGone()
	var unmade error
	if len(p.files)+len(p.gone) > 0 || p.resumes {
		unmade = c.reloadUnits(ctx)
	}
	if unmade == nil {
		p.states.forget(ctx, slices.DeleteFunc(slices.Clone(p.former), func(u *quadlet.Unit) bool { return p.verdict[u.Name] != "gone" }))
	}
	unstarted := p.startAll(ctx)
	if err = errors.Join(err, unmade, unstarted); ctx.Err() != nil || unmade != nil && unstarted != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(p.begun), func(name string) bool { return slices.Contains(p.start, name) })
	return errors.Join(err, p.ended(left, unmade == nil && len(left) == 0))
}

// ended notes what of this apply, or of an earlier one, another is to end: the services
// that are left to start, and unless that is all, what makes the services.
func (p *plan) ended(left []string, all bool) error {
	if !all {
		return p.write(applyingFile, left)
	}
	err := os.Remove(filepath.Join(p.to, applyingFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// change stops what must stop, and writes the files; after an error they are as before.
func (p *plan) change(ctx context.Context, c *call, sockets []string) error {
	if err := stopUnits(ctx, sockets); err != nil {
		return err
	}
	if err := stopUnits(ctx, p.stop); err != nil {
		return err
	}
	if err := p.clear(ctx, c); err != nil {
		return err
	}
	if err := p.write(appliedFile, slices.Concat(p.all, p.gone)); err != nil { // before they are there
		return err
	}
	if err := writeAll(p.files, p.to); err != nil {
		return errors.Join(err, p.write(appliedFile, p.applied))
	}
	return nil
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
	return errors.Join(append(errs, p.write(appliedFile, left))...)
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

// write writes a list of names beside the files.
func (p *plan) write(file string, names []string) error {
	if err := os.MkdirAll(p.to, 0o755); err != nil {
		return fmt.Errorf("cannot make directory %q: %w", p.to, errors.Unwrap(err))
	}
	return record.Write(filepath.Join(p.to, file), names, false)
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
