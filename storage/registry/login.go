package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	helper "github.com/docker/docker-credential-helpers/client"
	helpererrors "github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"moss/storage/image"
)

// ErrNotLoggedIn says that there are no credentials for a registry.
var ErrNotLoggedIn = errors.New("not logged in")

// errRefused says that the registry does not take a name and a password.
var errRefused = errors.New("invalid username or password")

// Logins are the credentials of a user: in podman's auth.json or another file of
// that format, and in the programs (docker-credential-NAME) that it or
// registries.conf name.
type Logins struct {
	access Access
	sys    *types.SystemContext
}

// NewLogins finds them. dockerFile is a config.json of Docker that is used in
// place of auth.json, or "".
func NewLogins(access Access, dockerFile string) (*Logins, error) {
	sys := system(access)
	if dockerFile != "" {
		if access.AuthFile != "" {
			return nil, errors.New("--authfile cannot be combined with --compat-auth-file")
		}
		sys.AuthFilePath, sys.DockerCompatAuthFilePath = "", dockerFile
	}
	return &Logins{access, sys}, nil
}

// Key is what credentials are kept under for an argument of login: a registry, or
// a namespace or repository of one. Without an argument it is the first of the
// unqualified-search-registries.
func (l *Logins) Key(arg string) (string, error) {
	if arg == "" {
		search, err := sysregistriesv2.UnqualifiedSearchRegistries(l.sys)
		if err != nil {
			return "", fmt.Errorf("cannot read registries.conf: %w", err)
		}
		if len(search) == 0 {
			return "", errors.New("cannot choose a registry: none is named, and registries.conf has no unqualified-search-registries")
		}
		return search[0], nil
	}
	key, isURL := strings.CutPrefix(arg, "https://")
	if !isURL {
		key, isURL = strings.CutPrefix(arg, "http://")
	}
	if isURL { // as 'docker login' is told
		key, _, _ = strings.Cut(key, "/")
	}
	registry, path, isNamespace := strings.Cut(key, "/")
	probe := registry + "/" + cmp.Or(path, "repository")
	if isNamespace && path == "" {
		return "", fmt.Errorf("invalid registry %q: it ends in a slash", arg)
	}
	// "localhost" and names without a dot are registries here, as with podman.
	r, err := image.Parse(probe)
	if err != nil {
		return "", fmt.Errorf("invalid registry %q: want HOST[:PORT][/NAMESPACE]", arg)
	}
	switch {
	case r.Tag != "" || r.Digest != "":
		return "", fmt.Errorf("invalid registry %q: credentials are of a registry, a namespace or a repository, not of a tag or digest", arg)
	case isNamespace && r.Registry == "":
		return "", fmt.Errorf("invalid registry %q: the name of a registry comes first", arg)
	}
	return key, nil
}

// User is whose credentials would be used for a key: ErrNotLoggedIn if there are
// none.
func (l *Logins) User(key string) (string, error) {
	found, err := find(l.sys, key)
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot find credentials for %q: %w", key, err)
	case found.IdentityToken != "" && found.Username == "":
		return "<token>", nil
	case found.Username == "":
		return "", fmt.Errorf("cannot find credentials for %q: %w", key, ErrNotLoggedIn)
	}
	return found.Username, nil
}

// CheckStored asks the registry whether the credentials that are there for a key
// still do.
func (l *Logins) CheckStored(ctx context.Context, key string) error {
	found, err := find(l.sys, key)
	if err != nil {
		return err
	}
	return l.check(ctx, key, authn.AuthConfig{Username: found.Username, Password: found.Password, IdentityToken: found.IdentityToken})
}

// Login asks the registry about a name and a password, keeps them if it takes
// them, and says where they are kept.
func (l *Logins) Login(ctx context.Context, key, user, password string) (where string, err error) {
	if err := l.check(ctx, key, authn.AuthConfig{Username: user, Password: password}); err != nil {
		return "", fmt.Errorf("cannot log in to %q: %w", key, err)
	}
	unlock, err := l.lock()
	if err != nil {
		return "", fmt.Errorf("cannot keep credentials for %q: %w", key, err)
	}
	defer unlock()
	kept, err := consult(l.sys, question{Verb: keepVerb, Key: key, User: user, Password: password})
	if err != nil {
		return "", fmt.Errorf("cannot keep credentials for %q: %w", key, err)
	}
	return kept.Where, nil
}

// Logout forgets the credentials of a key: ErrNotLoggedIn if there are none.
func (l *Logins) Logout(key string) error {
	unlock, err := l.lock()
	if err == nil {
		defer unlock()
		_, err = consult(l.sys, question{Verb: forgetVerb, Key: key})
	}
	if errors.Is(err, config.ErrNotLoggedIn) {
		if found, ferr := find(l.sys, key); ferr == nil && found != (types.DockerAuthConfig{}) {
			return fmt.Errorf("cannot log out of %q: its credentials are those of a wider key, or of docker: 'docker logout' removes those", key)
		}
		err = ErrNotLoggedIn
	}
	if err != nil {
		return fmt.Errorf("cannot log out of %q: %w", key, err)
	}
	return nil
}

// LogoutAll forgets all credentials.
func (l *Logins) LogoutAll() error {
	unlock, err := l.lock()
	if err == nil {
		defer unlock()
		_, err = consult(l.sys, question{Verb: forgetAllVerb})
	}
	if err != nil {
		return fmt.Errorf("cannot log out of all registries: %w", err)
	}
	return nil
}

// lock keeps two that change the file at once from undoing each other's change:
// the file itself is replaced, so it is the directory that is locked.
func (l *Logins) lock() (unlock func() error, err error) {
	dir := filepath.Dir(authFiles(l.sys)[0])
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock %q: %w", dir, err)
	}
	return f.Close, nil
}

// check greets a registry with credentials.
func (l *Logins) check(ctx context.Context, key string, auth authn.AuthConfig) error {
	registry, _, _ := strings.Cut(key, "/")
	c, host, err := greet(ctx, l.sys, registry, l.access, authn.FromConfig(auth))
	if err != nil {
		return err
	}
	resp, err := c.get(ctx, "https://"+host+"/v2/", nil, http.StatusOK)
	if err != nil {
		return c.guard.explain(refusal(err))
	}
	return resp.Body.Close()
}

// greet connects to a registry without a repository, and returns its host too.
func greet(ctx context.Context, sys *types.SystemContext, registry string, access Access, auth authn.Authenticator, scopes ...string) (*client, string, error) {
	configured, err := sysregistriesv2.FindRegistry(sys, registry)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read registries.conf: %w", err)
	}
	insecure := configured != nil && configured.Endpoint.Insecure || configured == nil && isLoopback(registry)
	src := source{ref: image.Reference{Registry: registry}, insecure: access.insecure(insecure)}
	var options []name.Option
	if src.insecure {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(registry, options...)
	if err != nil {
		return nil, "", err
	}
	base, err := newTransport(src, access)
	if err != nil {
		return nil, "", err
	}
	watch := &guard{RoundTripper: base, host: hostOf(reg.RegistryStr()), realms: access.Realms, stall: access.stall(), own: func(string) (string, string) { return "", "" }}
	rt, err := transport.NewWithContext(ctx, reg, auth, watch, scopes)
	if err != nil {
		return nil, "", watch.explain(refusal(withoutPlain(err)))
	}
	c := &client{ref: src.ref, guard: watch, say: func(string, ...any) {}, http: &http.Client{Transport: rt, CheckRedirect: redirects}}
	return c, reg.RegistryStr(), nil
}

// refusal says in fewer words that a registry, or its token server, does not take
// the credentials.
func refusal(err error) error {
	var status *transport.Error
	if errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
		return errRefused
	}
	return err
}

// findHere is find in this process.
func findHere(sys *types.SystemContext, key string) (types.DockerAuthConfig, error) {
	found, err := config.GetCredentials(sys, key)
	if err != nil || found != (types.DockerAuthConfig{}) {
		return found, err
	}
	registry, _, _ := strings.Cut(key, "/")
	return fromDefaultHelper(sys, registry)
}

// fromDefaultHelper asks the program that Docker's configuration names for every
// registry ("credsStore"), which containers-auth.json(5) does not know.
func fromDefaultHelper(sys *types.SystemContext, registry string) (types.DockerAuthConfig, error) {
	var none types.DockerAuthConfig
	files := authFiles(sys)
	path := files[len(files)-1]
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	var file struct{ CredsStore string }
	if err := json.Unmarshal(data, &file); err != nil {
		return none, fmt.Errorf("cannot read %q: %w", path, err)
	}
	if file.CredsStore == "" {
		return none, nil
	}
	if registry == "docker.io" {
		registry = "https://index.docker.io/v1/" // Docker's name for it
	}
	program := "docker-credential-" + file.CredsStore
	kept, err := helper.Get(helper.NewShellProgramFunc(program), registry)
	switch {
	case helpererrors.IsErrCredentialsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("cannot ask %s, which %q names: %w", program, path, err)
	case kept.Username == "<token>":
		return types.DockerAuthConfig{IdentityToken: kept.Secret}, nil
	}
	return types.DockerAuthConfig{Username: kept.Username, Password: kept.Secret}, nil
}
