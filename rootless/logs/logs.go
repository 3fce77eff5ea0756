// Package logs reads back what containers have written, from the files and the
// journal that their monitors write to.
//
//	logs.go     several logs as one, in order of time
//	print.go    entries as they were asked for
//	parse.go    one line of a log file
//	file.go     log files, across rotations
//	tail.go     where the last lines begin
//	follow.go   what is still to come
//	journal.go  the journal
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/monitor"
)

// Options of Print. Of the lines that Tail leaves, those between Since and Until
// are written.
type Options struct {
	Follow, Timestamps bool
	// Names writes the container's name before each line. Without, its short ID is
	// written where there is more than one.
	Names bool
	// Color gives the lines of each container a colour of their own.
	Color        bool
	Since, Until time.Time // zero: no bound
	Tail         int       // last lines of each container; negative: all
	Out, Err     io.Writer // for stdout and stderr; nil: not wanted
}

// Log is the log of one container.
type Log struct {
	Container *container.Container
	monitor.Log
}

// Entry is one line of output, or a part of one.
type Entry struct {
	At     time.Time
	Stderr bool
	Text   []byte
	Ended  bool // the line of output ends here
	Cut    bool // the container has ended here, in the middle of the line
}

// source is where the entries of one log come from.
type source interface {
	// next is the next entry that is there now; false: there is none.
	next() (Entry, bool, error)
	// follow goes on with what is still to come, until the container has ended and is
	// not being started again, or ctx is done.
	follow(ctx context.Context, yield func(Entry) error) error
	close()
}

// Print writes the logs of containers, the rotated files included, in order of time.
// With Follow it goes on until every container has ended, or Until, or ctx is done.
// What can be read of the others is written, also when one log cannot be read.
func Print(ctx context.Context, list []Log, o Options) error {
	if !o.Until.IsZero() && o.Follow {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, o.Until)
		defer cancel()
	}
	var all []*stream
	var errs []error
	p := &shared{Options: o, several: len(list) > 1}
	for i, l := range list {
		s, err := open(ctx, l, o)
		if err != nil {
			errs = append(errs, l.failed(err))
			continue
		}
		defer s.close()
		all = append(all, &stream{log: l, source: s, printer: newPrinter(p, l.Container, i)})
	}
	errs = append(errs, merge(all))
	if o.Follow {
		errs = append(errs, follow(ctx, all))
	}
	for _, s := range all {
		errs = append(errs, s.printer.finish())
	}
	return errors.Join(errs...)
}

// open opens the log of one container.
func open(ctx context.Context, l Log, o Options) (source, error) {
	switch l.Driver {
	case "k8s-file":
		return openFiles(l, parseCRI, o.Tail)
	case "json-file":
		return openFiles(l, parseJSON, o.Tail)
	case "journald":
		return openJournal(ctx, l, o)
	}
	return nil, fmt.Errorf("this container is using the '%s' log driver: %w", l.Driver, errdefs.ErrFailedPrecondition)
}

func (l Log) failed(err error) error {
	return fmt.Errorf("cannot read the log of container %q: %w", l.Container.Spec.Name, err)
}

// stream is a log on its way to the printer.
type stream struct {
	log Log
	source
	printer *printer
	first   Entry // the next one to print, if there is one
	more    bool
}

func (s *stream) advance() error {
	var err error
	if s.first, s.more, err = s.next(); err != nil {
		s.more = false
		return s.log.failed(err)
	}
	return nil
}

// merge prints what is there now, the earliest first.
func merge(all []*stream) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.advance())
	}
	for {
		var earliest *stream
		for _, s := range all {
			if s.more && (earliest == nil || s.first.At.Before(earliest.first.At)) {
				earliest = s
			}
		}
		if earliest == nil {
			return errors.Join(errs...)
		}
		if err := earliest.printer.print(earliest.first); err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, earliest.advance())
	}
}

// follow prints what comes.
func follow(ctx context.Context, all []*stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(all))
	var wait sync.WaitGroup
	for i, s := range all {
		wait.Go(func() { // ends with its container, or with ctx
			err := s.follow(ctx, s.printer.print)
			var unwritable *writeError
			switch {
			case errors.As(err, &unwritable):
				cancel() // nobody reads any more
				errs[i] = err
			case err != nil && ctx.Err() == nil:
				errs[i] = s.log.failed(err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}
