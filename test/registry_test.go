package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"
)

// annsHash is bcrypt of the password of ann, who may use a distribution.
const annsHash = "ann:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"

// distribution is one run of Debian's docker-registry.
type distribution struct {
	ts         *testscript.TestScript
	dir        string
	tls, login bool
	cert       tls.Certificate
	config     strings.Builder
}

// startDistribution is the script command "distribution [tls] [basic|token]
// IMAGE…": Debian's docker-registry at $registry, its log in $registrylog; with tls
// its certificate is in the directory $certs. With basic or token only ann, whose
// password is secret, may use it; the log of the token server is $tokenlog.
func startDistribution(ts *testscript.TestScript, args []string) error {
	d := &distribution{ts: ts, dir: ts.MkAbs(fmt.Sprintf("distribution%d", time.Now().UnixNano()))}
	if err := os.MkdirAll(filepath.Join(d.dir, "certs"), 0o755); err != nil {
		return err
	}
	var err error
	if d.cert, err = d.certificate(); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	fmt.Fprintf(&d.config, "version: 0.1\nlog: {level: info, accesslog: {disabled: false}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp:\n  addr: %s\n", filepath.Join(d.dir, "data"), port)
	words := slices.Clone(args)
	if words, d.tls = without(words, "tls"); d.tls {
		fmt.Fprintf(&d.config, "  tls: {certificate: %q, key: %q}\n", d.dir+"/certs/ca.crt", d.dir+"/key.pem")
	}
	var basic, token bool
	words, basic = without(words, "basic")
	words, token = without(words, "token")
	d.login = basic || token
	address := port
	switch {
	case basic:
		if err := os.WriteFile(d.dir+"/htpasswd", []byte(annsHash), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(&d.config, "auth: {htpasswd: {realm: test, path: %q}}\n", d.dir+"/htpasswd")
	case token:
		realm := d.tokenServer()
		address = strings.Replace(port, "127.0.0.1", "localhost", 1)
		fmt.Fprintf(&d.config, "auth: {token: {realm: %q, service: test, issuer: issuer, rootcertbundle: %q}}\n", realm, d.dir+"/certs/ca.crt")
	}
	ts.Setenv("registry", address)
	ts.Setenv("certs", d.dir+"/certs")
	ts.Setenv("registrylog", d.dir+"/log")
	if err := d.start(port); err != nil {
		return err
	}
	return d.push(address, words)
}

func without(words []string, word string) ([]string, bool) {
	i := slices.Index(words, word)
	if i < 0 {
		return words, false
	}
	return slices.Delete(words, i, i+1), true
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// certificate makes a self-signed one for loopback, certs/ca.crt and key.pem.
func (d *distribution) certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	err = errors.Join(
		os.WriteFile(d.dir+"/certs/ca.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(d.dir+"/key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// start runs the program until the end of the script.
func (d *distribution) start(address string) error {
	if err := os.WriteFile(d.dir+"/config.yml", []byte(d.config.String()), 0o600); err != nil {
		return err
	}
	log, err := os.Create(d.dir + "/log")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("docker-registry", "serve", d.dir+"/config.yml")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	d.ts.Defer(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 500 {
		if c, err := net.Dial("tcp", address); err == nil {
			return c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("docker-registry does not listen: %s", text)
}

// push puts the images into it.
func (d *distribution) push(address string, images []string) error {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	options := []remote.Option{remote.WithTransport(transport)}
	if d.login {
		options = append(options, remote.WithAuth(&authn.Basic{Username: "ann", Password: "secret"}))
	}
	return fill(address, images, options...)
}

// tokenServer gives tokens to ann, for whatever she asks: see distribution's
// "Token Authentication Specification". It returns its address.
func (d *distribution) tokenServer() (realm string) {
	path := d.dir + "/tokenlog"
	d.ts.Setenv("tokenlog", path)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(log, user, r.URL.RawQuery)
			log.Close()
		}
		if user != "ann" || password != "secret" {
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		token, err := d.token(user, r.URL.Query()["scope"])
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"token": token, "expires_in": 300})
	}))
	if d.tls {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{d.cert}}
		server.StartTLS()
	} else {
		server.Start()
	}
	d.ts.Defer(server.Close)
	// Of the registry's own name; go-containerregistry sends no credentials to addresses
	// of private networks.
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/token"
}

// token is a JSON web token (RFC 7519) signed with ES256.
func (d *distribution) token(user string, scopes []string) (string, error) {
	access := []map[string]any{}
	for _, s := range scopes {
		for one := range strings.FieldsSeq(s) {
			kind, rest, _ := strings.Cut(one, ":")
			at := max(strings.LastIndex(rest, ":"), 0)
			access = append(access, map[string]any{"type": kind, "name": rest[:at], "actions": strings.Split(strings.TrimPrefix(rest[at:], ":"), ",")})
		}
	}
	now := time.Now().Unix()
	encode := func(v any) string {
		data, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(data)
	}
	text := encode(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(d.cert.Certificate[0])}}) + "." +
		encode(map[string]any{"iss": "issuer", "sub": user, "aud": "test", "exp": now + 300, "nbf": now - 10, "iat": now, "jti": fmt.Sprint(time.Now().UnixNano()), "access": access})
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, d.cert.PrivateKey.(*ecdsa.PrivateKey), sum[:])
	if err != nil {
		return "", err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
