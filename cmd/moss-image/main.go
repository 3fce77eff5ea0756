// Command moss-image does one thing with images for moss: it alone opens the
// image store and talks to registries. The request is a JSON document on
// descriptor 3; see moss/storage/image.Request.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"moss/config"
	"moss/config/files"
	"moss/rootless/event"
	"moss/storage"
	"moss/storage/archive"
	"moss/storage/image"
	"moss/storage/limit"
	"moss/storage/registry"
	"moss/systemd/cgroup"
)

func main() {
	if storage.Init() {
		return
	}
	// What is unpacked and compressed passes through: there is little to collect, and
	// much to collect it from. How large it may become is said in storage.Init.
	debug.SetGCPercent(400)
	level := slog.LevelWarn
	_ = level.UnmarshalText([]byte(os.Getenv("MOSS_LOG"))) // which moss has read, and set
	// moss's, whose stderr this is, has no time either.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	err := run(os.Args[1:])
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "moss: %v\n", err)
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(code.code)
	}
	os.Exit(125)
}

// exitCode is an error that ends the program with another code than 125.
type exitCode struct {
	error
	code int
}

func (e exitCode) Unwrap() error { return e.error }

// run answers the request on descriptor 3, or packs the built-in image, which
// the Makefile asks for.
func run(args []string) error {
	if len(args) == 3 && args[0] == "pack-builtin" {
		return archive.PackBuiltin(args[1], args[2])
	}
	if len(args) == 2 && args[0] == "config" {
		return readConfig(args[1])
	}
	if len(args) == 1 && args[0] == registry.HelperCommand {
		return registry.Answer(os.Stdin, os.Stdout)
	}
	if len(args) != 0 {
		return errors.New("moss-image is started by moss, without arguments")
	}
	var req image.Request
	in := os.NewFile(3, "request")
	if err := json.NewDecoder(in).Decode(&req); err != nil {
		return fmt.Errorf("cannot read request on descriptor 3: %w", err)
	}
	if req.Held {
		go endWith(in)
	} else {
		in.Close()
	}
	if req.Root == "" || req.Run == "" {
		return errors.New("cannot serve request: Root and Run are needed")
	}
	return serve(context.Background(), &req)
}

// endWith ends this program when nobody has the other end of the pipe any more. What is
// half done is put right by the next, as after any other death.
func endWith(pipe *os.File) {
	io.Copy(io.Discard, pipe)
	os.Exit(137)
}

// helper is one run of this program.
type helper struct {
	store  *storage.Store
	images *image.Images
	events event.Log
	realms []string       // hosts that are told credentials for registries of other domains
	run    string         // <run>
	lists  []image.Damage // of the store, that was found before it could be opened
}

// realmsKey is where the configuration names them.
const realmsKey = "moss.trusted_realms"

// serve does the one verb of req.
func serve(ctx context.Context, req *image.Request) error {
	if req.CDI != nil {
		return cdi(req.CDI)
	}
	if req.Mapped != nil {
		return mapped(req.Root, req.Mapped)
	}
	switch { // no need of the store
	case req.Login != nil:
		return login(ctx, req.Login)
	case req.Logout != nil:
		return logout(req.Logout)
	case req.Search != nil:
		return search(ctx, req.Search)
	case req.Sign != nil:
		return sign(ctx, req.Sign)
	case req.Trust != nil:
		return trust(req.Trust)
	case req.ExportVolume != nil:
		return exportVolume(req.ExportVolume)
	}
	conf, err := config.Load(config.Here(), req.Run, func() (*config.Record, error) { return files.Read(config.Here(), cgroup.HostUID()) })
	if err != nil {
		return err
	}
	limits := limit.Of(conf)
	if req.ImportVolume != nil {
		return importVolume(req.ImportVolume, limits)
	}
	if req.Artifact != nil {
		return (&helper{realms: conf.List(realmsKey)}).artifacts(ctx, req.Root, req.Artifact)
	}
	return withStore(ctx, req, conf, limits)
}

// withStore does what needs the store, and has the index say what the store then says.
func withStore(ctx context.Context, req *image.Request, conf *config.Config, limits limit.Limits) (err error) {
	var lists []image.Damage
	if req.Check != nil {
		lists, err = storage.Rebuild(req.Root, req.Run, conf.Stores(cgroup.HostUID), req.Check.Repair)
		if err != nil || req.Check.Lists || len(lists) > 0 && !req.Check.Repair {
			return errors.Join(err, json.NewEncoder(os.Stdout).Encode(lists))
		}
	}
	store, err := storage.Open(req.Root, req.Run, conf.Stores(cgroup.HostUID))
	if err != nil {
		return err
	}
	defer store.Close()
	store.Limits = limits
	images := image.Open(req.Root)
	images.Beside(conf.Stores(cgroup.HostUID))
	h := &helper{store: store, images: images, events: event.Log(req.Events), run: req.Run, realms: conf.List(realmsKey), lists: lists}
	if err := h.refresh(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.refresh()) }()
	if req.Index == nil {
		if err := store.FinishRemovals(); err != nil {
			slog.Warn("what removed images have left stays for now", "err", err)
		}
		store.Verb, store.Source = origin(req)
		// What a pull has brought serves its next try.
		store.Begin(req.Pull != nil)
		defer func() { err = errors.Join(err, store.Finish(err != nil)) }()
	}

	return h.do(ctx, req)
}

// do is what a request's verb asks for.
func (h *helper) do(ctx context.Context, req *image.Request) error {
	switch {
	case req.Index != nil:
		return nil
	case req.Pull != nil:
		return h.pull(ctx, req.Pull)
	case req.Newer != nil:
		return h.newer(ctx, req.Newer)
	case req.Push != nil:
		return h.push(ctx, req.Push)
	case req.Sweep != nil:
		return nil // it has been done
	case req.Tag != nil:
		return h.tag(req.Tag)
	case req.Untag != nil:
		return h.untag(req.Untag)
	case req.List != nil:
		return h.list(ctx, req.List)
	case req.Save != nil:
		return h.save(req.Save)
	case req.Load != nil:
		return h.load(ctx, req.Load)
	case req.Import != nil:
		return h.importRoot(ctx, req.Import)
	case req.Commit != nil:
		return h.commit(req.Commit)
	case req.Builtin != nil:
		return h.builtin(req.Builtin)
	case req.Collect != nil:
		return h.collect(req.Collect)
	case req.Check != nil:
		return h.check(ctx, req.Check, h.lists)
	case req.Adopt != nil:
		return h.adopt(req.Adopt)
	}
	return errors.New("cannot serve request: it names no verb that this moss-image knows")
}

// origin is what the log of names says of the images that a request makes.
func origin(req *image.Request) (verb, source string) {
	switch {
	case req.Pull != nil:
		return "pull", ""
	case req.Load != nil:
		return "load", or(req.Load.Input, "-")
	case req.Import != nil:
		return "import", req.Import.Source
	case req.Commit != nil:
		return "commit", req.Commit.Container
	case req.Builtin != nil:
		return "load", "moss"
	}
	return "", ""
}

// note records what was done to an image, by ID; name says which of its names.
func (h *helper) note(status, id, name string) {
	h.events.Write(&event.Event{Type: event.Image, Status: status, ID: id, Name: name})
}

// refresh rewrites the index if the store has changed.
func (h *helper) refresh() error {
	if h.images.Fresh() {
		return nil
	}
	return h.store.Index()
}
