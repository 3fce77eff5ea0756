package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"moss/record"
	"moss/storage/image"
	"moss/userns/slack"
)

// HelperError says that moss-image failed; it has told the user why.
type HelperError struct{ Code int }

func (e *HelperError) Error() string {
	return fmt.Sprintf("moss-image ended with exit code %d", e.Code)
}

// ImageHelper runs moss-image with one request. Its output goes to out, or to
// our own standard output when out is nil; its progress and errors to stderr.
func (e *Engine) ImageHelper(ctx context.Context, req image.Request, out io.Writer) error {
	return e.imageHelper(ctx, req, os.Stdin, out)
}

func (e *Engine) imageHelper(ctx context.Context, req image.Request, in *os.File, out io.Writer) error {
	e.configure(&req)
	req.Held = true
	doc, err := record.Encode(req)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.CommandContext(ctx, Helper("moss-image"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, os.Stdout, os.Stderr
	if out != nil {
		cmd.Stdout = out
	}
	cmd.ExtraFiles = []*os.File{r}
	defer w.Close() // the kernel does it when moss is killed, and then moss-image ends too
	if err := slack.Exactly(cmd.Start); err != nil {
		return fmt.Errorf("cannot run moss-image: %w", err)
	}
	_, err = w.Write(doc)
	if req.Pull != nil {
		defer extendStart("Pulling " + strings.Join(req.Pull.References, ", "))()
	}
	if werr := cmd.Wait(); werr != nil {
		var exit *exec.ExitError
		if errors.As(werr, &exit) {
			return &HelperError{Code: exit.ExitCode()}
		}
		return fmt.Errorf("cannot run moss-image: %w", werr)
	}
	if e.MaxSize > 0 && (req.Pull != nil || req.Load != nil || req.Import != nil || req.Commit != nil) {
		e.keepSize(ctx)
	}
	return err
}

// FreshImages makes sure that the index says what the store says.
func (e *Engine) FreshImages(ctx context.Context) error {
	if e.Images.Fresh() {
		return nil
	}
	return e.ImageHelper(ctx, image.Request{Index: &image.IndexRequest{}}, io.Discard)
}

// Image finds an image in the store: image.ErrNotFound if it is not there. Of a
// manifest list it is the image for this machine.
func (e *Engine) Image(ctx context.Context, name string) (*image.Image, error) {
	img, err := e.Named(ctx, name)
	if err != nil || !img.IsList() {
		return img, err
	}
	return e.Images.ForPlatform(img, image.HostPlatform())
}

// Named is Image, but a manifest list is itself.
func (e *Engine) Named(ctx context.Context, name string) (*image.Image, error) {
	if err := e.FreshImages(ctx); err != nil {
		return nil, fmt.Errorf("cannot read the image index: %w", err)
	}
	return e.Images.Lookup(name)
}

// resolve is stage 3: the image by name, pulled if the policy says so.
func (e *Engine) resolve(ctx context.Context, name, platform string, opts CreateOptions) (*image.Image, error) {
	img, err := e.Named(ctx, name)
	found := err == nil
	if found && (platform != "" || img.IsList()) {
		want, err := image.ParsePlatform(platform)
		if err != nil {
			return nil, err
		}
		if img.IsList() && opts.Pull != "always" && opts.Pull != "newer" {
			return e.fromList(ctx, img, want, opts)
		}
		found = img.Matches(want)
	}
	if err != nil && !errors.Is(err, image.ErrNotFound) {
		return nil, err
	}
	switch opts.Pull {
	case "", "missing":
		if found {
			return img, nil
		}
	case "never":
		if found {
			return img, nil
		}
		return nil, fmt.Errorf("cannot find image %q: it is not in the store and --pull=never was given: %w", name, image.ErrNotFound)
	case "always", "newer":
	default:
		return nil, fmt.Errorf("invalid value %q for flag --pull: want always, missing, never or newer", opts.Pull)
	}
	if IsBuiltin(name) {
		if !found {
			if err := e.ImageHelper(ctx, image.Request{Builtin: &image.IndexRequest{}}, io.Discard); err != nil {
				return nil, err
			}
		}
		return e.Image(ctx, name)
	}
	policy := opts.Pull
	if policy == "" || policy == "missing" {
		policy = "always" // it is missing, or of another platform
	}
	if err := e.pull(ctx, name, platform, policy, opts); err != nil {
		return nil, err
	}
	return e.Image(ctx, name)
}

// fromList is the image of a manifest list for a platform, pulled from where the list
// has it if it is missing.
func (e *Engine) fromList(ctx context.Context, list *image.Image, want image.Platform, opts CreateOptions) (*image.Image, error) {
	img, err := e.Images.ForPlatform(list, want)
	var absent *image.AbsentError
	if !errors.As(err, &absent) || absent.Source() == "" || opts.Pull == "never" {
		return img, err
	}
	if err := e.pull(ctx, absent.Source(), "", "always", opts); err != nil {
		return nil, err
	}
	if err := e.FreshImages(ctx); err != nil {
		return nil, err
	}
	return e.Images.ForPlatform(list, want)
}

// pull gets an image for a container that is to be created.
func (e *Engine) pull(ctx context.Context, name, platform, policy string, opts CreateOptions) error {
	return e.ImageHelper(ctx, image.Request{Pull: &image.PullRequest{
		References: []string{name}, Platform: platform, Policy: policy, TLSVerify: opts.TLSVerify,
		AuthFile: opts.AuthFile, Creds: opts.Creds, CertDir: opts.CertDir, Retries: opts.Retries, RetryDelay: opts.RetryDelay, Quiet: opts.Quiet, Progress: "stderr",
	}}, io.Discard)
}

// BuiltinImage is the image that moss carries itself.
const BuiltinImage = "localhost/moss/box:latest"

// IsBuiltin says whether a name is that of BuiltinImage.
func IsBuiltin(name string) bool {
	return name == BuiltinImage || name == strings.TrimSuffix(BuiltinImage, ":latest")
}
