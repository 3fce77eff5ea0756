package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"unsafe"

	"moss/storage/image"
	"moss/storage/secret"
)

// AuthFileFlags name the file of credentials.
type AuthFileFlags struct {
	Authfile       string `help:"File to keep credentials in; podman's auth.json by default." placeholder:"FILE"`
	CompatAuthFile string `help:"Docker's config.json to keep credentials in, in place of --authfile." placeholder:"FILE"`
}

func (f *AuthFileFlags) check(v *flagValues) {
	v.check(f.Authfile != "" && f.CompatAuthFile != "", "--authfile cannot be combined with --compat-auth-file")
	v.one("authfile", f.Authfile, notDirectory)
	v.one("compat-auth-file", f.CompatAuthFile, notDirectory)
	f.Authfile, f.CompatAuthFile = absolute(f.Authfile), absolute(f.CompatAuthFile)
}

func notDirectory(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return errors.New("it is a directory")
	}
	return nil
}

// LoginCmd is "moss login".
type LoginCmd struct {
	Globals
	AuthFileFlags
	CertDir       string `help:"Directory with certificates for the registry." placeholder:"DIR"`
	GetLogin      bool   `help:"Print the name of the user who is logged in."`
	Password      string `short:"p" help:"Password. Others see it for a moment in the list of processes, and the shell keeps it: use --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
	Secret        string `help:"Take the password from this secret, whose name is the user's if --username is not given." placeholder:"NAME"`
	TLSVerify     *bool  `name:"tls-verify" help:"Require HTTPS and a valid certificate."`
	Username      string `short:"u" help:"Name of the user." placeholder:"NAME"`
	Verbose       bool   `short:"v" help:"Say where the credentials are kept."`
	Registry      string `arg:"" optional:"" help:"Registry, or a namespace or repository of one."`
}

func (cmd *LoginCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[LoginCmd]()}
	cmd.check(v)
	v.one("cert-dir", cmd.CertDir, directory)
	v.check(cmd.isGiven("password") && cmd.PasswordStdin, "--password cannot be combined with --password-stdin")
	v.check(cmd.Secret != "" && (cmd.isGiven("password") || cmd.PasswordStdin), "--secret cannot be combined with --password or --password-stdin")
	v.check(cmd.PasswordStdin && cmd.Username == "", "--password-stdin needs --username")
	v.check(cmd.isGiven("password") && cmd.Password == "", "the password is empty")
	v.check(cmd.isGiven("username") && cmd.Username == "", "the user name is empty")
	v.check(strings.Contains(cmd.Username, ":"), "a user name has no colon")
	v.check(cmd.GetLogin && (cmd.Username+cmd.Password+cmd.Secret != "" || cmd.PasswordStdin), "--get-login cannot be combined with a user name or a password")
	return v.err
}

// Run lets moss-image ask the registry.
func (cmd *LoginCmd) Run(ctx context.Context, c *call) error {
	if cmd.Secret != "" {
		data, err := secret.Open(c.Dirs.Root).Read(cmd.Secret)
		if err != nil {
			return fmt.Errorf("cannot log in: %w", err)
		}
		cmd.Password = strings.TrimRight(string(data), "\r\n")
		if cmd.Username == "" {
			cmd.Username = cmd.Secret
		}
	}
	return c.Engine.ImageHelper(ctx, image.Request{Login: &image.LoginRequest{
		Key: cmd.Registry, User: cmd.Username, Password: cmd.Password, PasswordStdin: cmd.PasswordStdin, Get: cmd.GetLogin, Verbose: cmd.Verbose,
		TLSVerify: cmd.TLSVerify, AuthFile: cmd.Authfile, CompatFile: cmd.CompatAuthFile, CertDir: cmd.CertDir,
	}}, nil)
}

// LogoutCmd is "moss logout".
type LogoutCmd struct {
	Globals
	AuthFileFlags
	All      bool   `short:"a" help:"Forget the credentials of every registry."`
	Registry string `arg:"" optional:"" help:"Registry, or a namespace or repository of one, as given to login."`
}

func (cmd *LogoutCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[LogoutCmd]()}
	cmd.check(v)
	v.check(cmd.All && cmd.Registry != "", "--all cannot be combined with a registry")
	return v.err
}

// Run lets moss-image edit the file.
func (cmd *LogoutCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Logout: &image.LogoutRequest{
		Key: cmd.Registry, All: cmd.All, AuthFile: cmd.Authfile, CompatFile: cmd.CompatAuthFile,
	}}, nil)
}

// hideSecrets takes what is secret out of the command line that ps shows: the
// arguments of a process are its own memory, which os.Args refers to.
func hideSecrets(cmd command) {
	whole := reflect.ValueOf(cmd).Elem()
	for _, f := range leafFields(whole.Type()) {
		name := longName(f.StructField)
		if name != "password" && name != "creds" || f.Type.Kind() != reflect.String {
			continue
		}
		// What the parser gave may be a part of the argument.
		value := strings.Clone(whole.FieldByIndex(f.path).String())
		whole.FieldByIndex(f.path).SetString(value)
		if name == "creds" {
			_, value, _ = strings.Cut(value, ":")
		}
		for i, arg := range os.Args[1:] {
			short := name == "password" && (os.Args[i] == "-p" || strings.HasPrefix(arg, "-p"))
			if !short && os.Args[i] != "--"+name && !strings.HasPrefix(arg, "--"+name+"=") {
				continue
			}
			if at := len(arg) - len(value); value != "" && strings.HasSuffix(arg, value) {
				secret := unsafe.Slice(unsafe.StringData(arg), len(arg))[at:]
				for n := range secret {
					secret[n] = 'x'
				}
			}
		}
	}
}
