// Package registry copies images between the store and registries; it also finds
// the credentials and reads registries.conf.
package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"moss/storage/image"
)

// maxDocument bounds manifests and configurations: they are held in memory, and
// a registry must not decide how much of it.
const maxDocument = 4 << 20

// Access is what the command line says about reaching a registry.
type Access struct {
	TLSVerify *bool  // nil: as registries.conf says
	AuthFile  string // "": the usual files
	Creds     string // USER[:PASSWORD]
	CertDir   string
	Retries   int // 0: 3; less: none
	// RetryDelay is the pause before each further try; 0 is half a second, doubled each time.
	RetryDelay time.Duration
	// Parallel is how many blobs are fetched or sent at once; 0: 6.
	Parallel int
	// Realms are hosts that may be told the credentials though they are not of the
	// registry's domain, where it says that tokens are made there.
	Realms []string
	// Stall is how long a registry may say nothing; 0: a minute.
	Stall time.Duration
	// patience is how long an answer may take to begin; 0 is as Stall.
	patience time.Duration
}

// insecure says whether plain HTTP and unknown certificates will do.
func (a Access) insecure(configured bool) bool {
	if a.TLSVerify != nil {
		return !*a.TLSVerify
	}
	return configured
}

func (a Access) stall() time.Duration { return cmp.Or(a.Stall, time.Minute) }

// client talks to one repository.
type client struct {
	ref     image.Reference
	repo    name.Repository
	http    *http.Client
	guard   *guard
	say     func(format string, args ...any) // tells the user why it takes long
	retries int
	delay   time.Duration
	// parallel is how many blobs are fetched or sent at once.
	parallel int
}

// connect greets the registry of a source and logs in; actions are "pull" or
// "push,pull".
func connect(ctx context.Context, sys *types.SystemContext, src source, access Access, actions string) (*client, error) {
	var options []name.Option
	if src.insecure {
		options = append(options, name.Insecure)
	}
	repo, err := name.NewRepository(src.ref.Name(), options...)
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", image.ErrInvalid, src.ref, err)
	}
	base, err := newTransport(src, access)
	if err != nil {
		return nil, err
	}
	watch := &guard{RoundTripper: base, host: hostOf(repo.RegistryStr()), realms: access.Realms, stall: access.stall(), own: func(host string) (string, string) {
		found, _ := find(sys, host)
		return found.Username, found.Password
	}}
	auth, err := credentials(sys, src.ref, access)
	if err != nil {
		return nil, err
	}
	c := &client{ref: src.ref, repo: repo, guard: watch, say: func(string, ...any) {}, retries: access.Retries, delay: access.RetryDelay, parallel: access.Parallel}
	if c.retries == 0 {
		c.retries = 3
	}
	if c.parallel <= 0 {
		c.parallel = 6
	}
	err = c.retry(ctx, func() error {
		rt, err := transport.NewWithContext(ctx, repo.Registry, auth, watch, []string{repo.Scope(actions)})
		c.http = &http.Client{Transport: rt, CheckRedirect: redirects}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot reach registry %q: %w", src.ref.Registry, watch.explain(withoutPlain(err)))
	}
	return c, nil
}

// newTransport makes the connection's settings: certificates as in
// containers-certs.d(5), and no plain HTTP unless the source allows it.
func newTransport(src source, access Access) (http.RoundTripper, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.ResponseHeaderTimeout = cmp.Or(access.patience, access.stall())
	t.MaxResponseHeaderBytes = maxHeader
	t.MaxIdleConnsPerHost = 8
	t.WriteBufferSize = 128 << 10 // an upload is few, large writes
	t.DisableCompression = true   // a layer's digest is over the bytes as stored
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: src.insecure}
	dirs := []string{access.CertDir}
	if access.CertDir == "" {
		home, _ := os.UserHomeDir()
		host := src.ref.Registry
		dirs = []string{
			filepath.Join(home, ".config/containers/certs.d", host),
			filepath.Join("/etc/containers/certs.d", host),
			filepath.Join("/etc/docker/certs.d", host),
		}
	}
	for _, dir := range dirs {
		found, err := loadCertificates(t.TLSClientConfig, dir)
		if err != nil {
			return nil, fmt.Errorf("cannot read certificates in %q: %w", dir, err)
		}
		if found {
			break
		}
	}
	if src.insecure {
		return t, nil
	}
	return httpsOnly{t}, nil
}

// plainRefused is why httpsOnly does not try.
const plainRefused = "plain HTTP is not allowed with this registry (allow it with --tls-verify=false, or insecure = true in registries.conf)"

// withoutPlain leaves out of an error of HTTPS that plain HTTP was not tried then, unless
// that is what the registry speaks.
func withoutPlain(err error) error {
	text := err.Error()
	https, _, ok := strings.Cut(text, "; Get \"http://")
	if !ok || !strings.HasSuffix(text, plainRefused) || strings.Contains(https, "server gave HTTP response") {
		return err
	}
	return shorter{err, https}
}

// shorter is an error that says less.
type shorter struct {
	error
	text string
}

func (s shorter) Error() string { return s.text }
func (s shorter) Unwrap() error { return s.error }

// httpsOnly refuses what go-containerregistry would try on its own: plain HTTP
// with registries on loopback and in private networks.
type httpsOnly struct{ http.RoundTripper }

func (h httpsOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, errors.New(plainRefused)
	}
	return h.RoundTripper.RoundTrip(req)
}

func loadCertificates(c *tls.Config, dir string) (found bool, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) && dir != "" || dir == "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return false, err
			}
			if c.RootCAs == nil {
				if c.RootCAs, err = x509.SystemCertPool(); err != nil {
					return false, err
				}
			}
			c.RootCAs.AppendCertsFromPEM(pem)
			found = true
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return false, err
			}
			c.Certificates = append(c.Certificates, pair)
			found = true
		}
	}
	return found, nil
}

// credentials come from --creds, else from the file that --authfile or
// REGISTRY_AUTH_FILE names, else from podman's and Docker's files and their
// helpers, by the most specific key.
func credentials(sys *types.SystemContext, ref image.Reference, access Access) (authn.Authenticator, error) {
	if access.Creds != "" {
		user, password, _ := strings.Cut(access.Creds, ":")
		if user == "" {
			return nil, errors.New("cannot use credentials: want USER[:PASSWORD]")
		}
		return &authn.Basic{Username: user, Password: password}, nil
	}
	named, err := reference.ParseNormalizedNamed(ref.Name())
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", image.ErrInvalid, ref, err)
	}
	found, err := find(sys, named.Name())
	if err != nil {
		return nil, fmt.Errorf("cannot find credentials for %q: %w", ref.Registry, err)
	}
	if found == (types.DockerAuthConfig{}) {
		return authn.Anonymous, nil
	}
	return authn.FromConfig(authn.AuthConfig{
		Username: found.Username, Password: found.Password, IdentityToken: found.IdentityToken,
	}), nil
}

func (c *client) url(format string, args ...any) string {
	// The transport changes the scheme to what the registry answered on.
	return fmt.Sprintf("https://%s/v2/%s/", c.repo.RegistryStr(), c.repo.RepositoryStr()) + fmt.Sprintf(format, args...)
}

// get asks once. The caller closes the body.
func (c *client) get(ctx context.Context, address string, header map[string]string, codes ...int) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	for key, value := range header {
		req.Header.Set(key, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, codes...); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// document fetches something small whole.
func (c *client) document(ctx context.Context, address string, header map[string]string) (data []byte, mediaType string, err error) {
	data, answer, err := c.answer(ctx, address, header)
	return data, answer.Get("Content-Type"), err
}

// answer is document, with the headers that came.
func (c *client) answer(ctx context.Context, address string, header map[string]string) (data []byte, headers http.Header, err error) {
	err = c.retry(ctx, func() error {
		resp, err := c.get(ctx, address, header, http.StatusOK)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		headers = resp.Header
		if resp.ContentLength > maxDocument {
			return tooLarge(resp.ContentLength)
		}
		data, err = io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
		if err == nil && len(data) > maxDocument {
			return tooLarge(len(data))
		}
		if err == nil && (isPage(resp) || bytes.HasPrefix(bytes.TrimSpace(data), []byte("<"))) {
			return errPage
		}
		return err
	})
	return data, headers, err
}

// errPage is what captive portals, proxies and mistyped addresses lead to.
var errPage = permanent{errors.New("a web page came in place of a registry's answer: is this a registry, and is there a proxy or a page to log in at?")}

func isPage(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
}

func tooLarge[N int | int64](n N) error {
	return permanent{fmt.Errorf("document of %d bytes or more; at most %d are accepted", n, maxDocument)}
}

// manifest fetches a manifest or index by tag or digest.
func (c *client) manifest(ctx context.Context, tagOrDigest string) (data []byte, mediaType string, err error) {
	data, mediaType, err = c.document(ctx, c.url("manifests/%s", tagOrDigest), map[string]string{"Accept": strings.Join(manifestTypes, ", ")})
	var status *transport.Error
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return nil, "", fmt.Errorf("cannot read manifest %q: not found in the registry: %w", tagOrDigest, err)
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot read manifest %q: %w", tagOrDigest, err)
	}
	if strings.HasPrefix(tagOrDigest, "sha256:") && digest.FromBytes(data).String() != tagOrDigest {
		return nil, "", fmt.Errorf("cannot read manifest %q: the registry sent another one, of digest %s", tagOrDigest, digest.FromBytes(data))
	}
	mediaType, _, _ = strings.Cut(mediaType, ";")
	// What the document says of itself counts; the header may be missing.
	var says struct{ MediaType string }
	if json.Unmarshal(data, &says) == nil && says.MediaType != "" {
		mediaType = says.MediaType
	}
	return data, mediaType, nil
}

// maxTags is how many tags of a repository are listed, on as many pages: a list may have no end.
const maxTags = 10_000

// tags lists every tag of the repository (distribution-spec, "Listing Tags").
func (c *client) tags(ctx context.Context) (all []string, err error) {
	wrong := func(err error) error { return fmt.Errorf("cannot list tags of %q: %w", c.ref.Name(), err) }
	next, err := url.Parse(c.url("tags/list?n=1000"))
	if err != nil {
		return nil, wrong(err)
	}
	for range maxTags {
		data, headers, err := c.answer(ctx, next.String(), nil)
		if err != nil {
			return nil, wrong(err)
		}
		var page struct{ Tags []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, wrong(err)
		}
		all = append(all, page.Tags...)
		link, _, more := strings.Cut(strings.TrimPrefix(headers.Get("Link"), "<"), ">")
		if !more || len(page.Tags) == 0 {
			return all, nil
		}
		if len(all) >= maxTags {
			break
		}
		if next, err = next.Parse(link); err != nil {
			return nil, wrong(err)
		}
	}
	return nil, wrong(fmt.Errorf("there are more than %d", maxTags))
}
