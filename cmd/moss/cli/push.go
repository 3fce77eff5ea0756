package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"moss/storage/image"
)

// PushCmd is "moss push".
type PushCmd struct {
	Globals
	RegistryFlags
	CompressionFormat string `words:"gzip zstd zstd:chunked" help:"How to compress layers: gzip (the default), zstd or zstd:chunked." placeholder:"FORMAT"`
	CompressionLevel  *int   `help:"How hard: 1 to 9 with gzip, 1 to 20 with zstd." placeholder:"N"`
	Digestfile        string `help:"Write the digest of the pushed image to this file." placeholder:"FILE"`
	ForceCompression  *bool  `help:"Send layers again that the registry has in another compression; so it is when --compression-format is given."`
	Format            string `words:"oci docker" short:"f" help:"Manifest type: oci or docker; the image's own by default." placeholder:"TYPE"`
	RemoveSignatures  bool   `help:"Push no signatures that the image came with; moss never does."`
	Retry             *int   `help:"How often to try again." placeholder:"N"`
	RetryDelay        string `help:"Pause before each try; growing ones when not given." placeholder:"DURATION"`
	SigstoreKey       string `name:"sign-by-sigstore-private-key" help:"Sign what is pushed with this private key." placeholder:"FILE"`
	PassphraseFile    string `name:"sign-passphrase-file" help:"File with the passphrase of the private key; you are asked otherwise." placeholder:"FILE"`
	Image             string `arg:"" help:"Name or ID of an image."`
	Destination       string `arg:"" optional:"" help:"Where to push it, if not where its name says."`

	request image.PushRequest
	archive *image.SaveRequest // the destination is none of a registry
}

// archives are podman's words for destinations that save knows.
var archives = [...]struct{ transport, format string }{
	{"docker-archive:", "docker-archive"}, {"oci-archive:", "oci-archive"}, {"oci:", "oci-dir"}, {"dir:", "docker-dir"},
}

func (cmd *PushCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[PushCmd]()}
	cmd.check(v)
	v.one("format", cmd.Format, func(s string) error {
		switch s {
		case "v2s2": // podman's word for docker
			cmd.Format = "docker"
			return nil
		case "v2s1":
			return errors.New("registries take no manifests of schema 1 any more; use oci or docker")
		}
		return oneOf("oci", "docker")(s)
	})
	v.one("compression-format", cmd.CompressionFormat, oneOf("gzip", "zstd", "zstd:chunked"))
	v.check(cmd.Format == "docker" && strings.HasPrefix(cmd.CompressionFormat, "zstd") && cmd.isGiven("compression-format"), "--format docker has no word for --compression-format %s; use oci", cmd.CompressionFormat)
	v.check(cmd.isGiven("remove-signatures") && !cmd.RemoveSignatures, "--remove-signatures=false: moss does not keep the signatures that an image came with; sign what is pushed with --sign-by-sigstore-private-key")
	v.one("sign-by-sigstore-private-key", cmd.SigstoreKey, readable)
	v.one("sign-passphrase-file", cmd.PassphraseFile, readable)
	v.check(cmd.PassphraseFile != "" && cmd.SigstoreKey == "", "--sign-passphrase-file needs --sign-by-sigstore-private-key")
	v.one("digestfile", cmd.Digestfile, notDirectory)
	most := 20
	if cmd.CompressionFormat == "" || cmd.CompressionFormat == "gzip" {
		most = 9
	}
	readCount(v, "compression-level", cmd.CompressionLevel, 1, func(n int) { cmd.request.Level = n })
	v.check(cmd.request.Level > most, "--compression-level %d is more than the %d of --compression-format", cmd.request.Level, most)
	retries := PullFlags{Retry: cmd.Retry, RetryDelay: cmd.RetryDelay}
	retries.check(v)
	if v.err != nil {
		return v.err
	}
	r := &cmd.request
	r.Image, r.Destination, r.TLSVerify, r.AuthFile, r.Creds, r.CertDir = cmd.Image, cmd.Destination, cmd.TLSVerify, cmd.Authfile, cmd.Creds, cmd.CertDir
	r.Quiet, r.DigestFile, r.Format, r.Compression = cmd.Quiet, cmd.Digestfile, cmd.Format, cmd.CompressionFormat
	r.Force = cmd.isGiven("compression-format")
	if cmd.ForceCompression != nil {
		r.Force = *cmd.ForceCompression
	}
	r.SignKey, r.PassphraseFile = cmd.SigstoreKey, cmd.PassphraseFile
	r.Retries, r.RetryDelay = retries.retries()
	return cmd.checkDestination()
}

// checkDestination finds out whether the image goes to an archive.
func (cmd *PushCmd) checkDestination() error {
	if strings.HasPrefix(cmd.Destination, "docker-daemon:") || strings.HasPrefix(cmd.Destination, "containers-storage:") {
		return usagef("cannot push to %q: moss pushes to registries and archives; 'moss save' and 'docker load' bring an image to Docker", cmd.Destination)
	}
	for i := range archives {
		path, ok := strings.CutPrefix(cmd.Destination, archives[i].transport)
		if !ok {
			continue
		}
		switch {
		case path == "" || strings.Contains(path, ":"):
			return usagef("cannot push to %q: want %sPATH; the image keeps its name", cmd.Destination, archives[i].transport)
		case cmd.isGiven("compression-format") || cmd.Digestfile != "" || cmd.SigstoreKey != "":
			return usagef("--compression-format, --digestfile and --sign-by-sigstore-private-key are for registries, not for %s", cmd.Destination)
		}
		if err := archiveTo(path); err != nil {
			return err
		}
		cmd.archive = &image.SaveRequest{Images: []string{cmd.Image}, Format: archives[i].format, Output: path, Quiet: cmd.Quiet}
		return nil
	}
	if cmd.Destination != "" {
		if _, err := image.Parse(cmd.Destination); err != nil {
			return fmt.Errorf("cannot push image %q: %w", cmd.Image, err)
		}
	}
	return nil
}

// Run lets moss-image push.
func (cmd *PushCmd) Run(ctx context.Context, c *call) error {
	if cmd.archive != nil {
		return c.Engine.ImageHelper(ctx, image.Request{Save: cmd.archive}, nil)
	}
	return c.Engine.ImageHelper(ctx, image.Request{Push: &cmd.request}, nil)
}
