package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"moss/storage/image"
	"moss/storage/policy"
	"moss/storage/registry"
)

// sign signs images that are in registries, or makes the keys for it.
func sign(ctx context.Context, req *image.SignRequest) error {
	if req.NewKey != "" {
		passphrase, err := passphrase(req.PassphraseFile, true)
		if err == nil {
			err = policy.NewKey(req.NewKey, passphrase)
		}
		if err != nil {
			return fmt.Errorf("cannot make keys %q: %w", req.NewKey, err)
		}
		fmt.Printf("Key written to %s.private and %s.pub\n", req.NewKey, req.NewKey)
		return nil
	}
	signer, err := loadSigner(req.Key, req.PassphraseFile)
	if err != nil {
		return fmt.Errorf("cannot sign image %q: %w", req.Images[0], err)
	}
	options := registry.SignOptions{Access: registry.Access{TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, CertDir: req.CertDir}, Signer: *signer, All: req.All}
	var all error
	for _, name := range req.Images {
		signed, err := registry.Sign(ctx, name, options)
		all = errors.Join(all, err)
		for _, digest := range signed {
			fmt.Println(digest)
		}
	}
	return all
}

// loadSigner reads a private key, asking for its passphrase where it is locked and
// no file has it; nil without a key.
func loadSigner(path, passphraseFile string) (*registry.Signer, error) {
	if path == "" {
		return nil, nil
	}
	var secret []byte
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	if passphraseFile != "" || strings.Contains(string(data), "ENCRYPTED") {
		if secret, err = passphrase(passphraseFile, false); err != nil {
			return nil, err
		}
	}
	key, err := policy.LoadKey(path, secret)
	if err != nil {
		return nil, err
	}
	creator := "moss"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		creator += " " + info.Main.Version
	}
	return &registry.Signer{Key: key, Creator: creator}, nil
}

// passphrase comes from a file, without the end of its line, or from the terminal,
// twice for a new key.
func passphrase(file string, isNew bool) ([]byte, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read passphrase: %w", err)
		}
		return []byte(strings.TrimSuffix(string(data), "\n")), nil
	}
	first, err := askPassword("Passphrase: ", "--sign-passphrase-file")
	if err != nil || !isNew {
		return []byte(first), err
	}
	second, err := askPassword("Again: ", "--sign-passphrase-file")
	if err == nil && second != first {
		err = errors.New("the two are not the same")
	}
	return []byte(first), err
}

// trust shows or changes the policy.
func trust(req *image.TrustRequest) error {
	if req.Scope != "" {
		return policy.Set(req.Path, req.Scope, req.Type, req.Keys)
	}
	p, err := policy.Load(req.Path)
	if err != nil {
		return err
	}
	if req.Raw {
		text, err := p.Raw()
		fmt.Print(text)
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(p.Entries())
}
