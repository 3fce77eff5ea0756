package test

import (
	"io"
	"log"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"moss/test/badregistry"
)

// bad is the key of a script's misbehaving registry.
type bad struct{}

// misbehaving returns the script's registry with the image random that
// misbehaves; it is started where it is first wanted.
func misbehaving(ts *testscript.TestScript) (*badregistry.Registry, error) {
	kept := ts.Value(bad{}).(**badregistry.Registry)
	if *kept == nil {
		r := badregistry.Start(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
		ts.Defer(r.Close)
		if err := fill(r.Address, []string{"random"}); err != nil {
			return nil, err
		}
		ts.Setenv("bad", r.Address)
		ts.Setenv("elsewhere", r.Elsewhere)
		*kept = r
	}
	return *kept, nil
}

// misbehave is the script command "misbehave FAULT…": the registry at $bad, with the
// image random, has these faults of test/badregistry from now on, and no other.
func misbehave(ts *testscript.TestScript, args []string) error {
	r, err := misbehaving(ts)
	if err != nil {
		return err
	}
	return r.Misbehave(args...)
}

// requests is the script command "requests": the file requests then says what $bad
// was asked since the last "misbehave".
func requests(ts *testscript.TestScript, _ []string) error {
	r, err := misbehaving(ts)
	if err != nil {
		return err
	}
	return os.WriteFile(ts.MkAbs("requests"), []byte(r.Log()), 0o644)
}
