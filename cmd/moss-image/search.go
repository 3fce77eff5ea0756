package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"moss/storage/image"
	"moss/storage/registry"
)

// search looks for images in registries.
func search(ctx context.Context, req *image.SearchRequest) error {
	found, err := registry.Search(ctx, req.Term, registry.SearchOptions{
		Access: registry.Access{TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, Creds: req.Creds, CertDir: req.CertDir},
		Limit:  req.Limit, Tags: req.Tags,
		Say: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) },
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}
