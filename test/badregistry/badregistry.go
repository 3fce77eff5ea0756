// Package badregistry is a registry that misbehaves in the ways that registries,
// proxies and networks do, and that tells afterwards what it was asked.
package badregistry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Registry answers as a good registry does, except where a fault says otherwise.
type Registry struct {
	Address   string // 127.0.0.1:port
	Elsewhere string // localhost:port, another host that answers as the good registry does

	good   http.Handler
	ends   []func()
	mu     sync.Mutex
	faults map[string]*fault
	log    []string
	pages  int // of tags, that were answered
}

// fault is one way to misbehave: how often it still does (-1: always), and a number that it may need.
type fault struct{ left, value int }

// Start serves what good serves, badly. Close ends it.
func Start(good http.Handler) *Registry {
	r := &Registry{good: good, faults: map[string]*fault{}}
	near := httptest.NewServer(http.HandlerFunc(r.serve))
	far := httptest.NewServer(http.HandlerFunc(r.serveElsewhere))
	r.ends = []func(){near.CloseClientConnections, near.Close, far.CloseClientConnections, far.Close}
	r.Address = strings.TrimPrefix(near.URL, "http://")
	r.Elsewhere = "localhost:" + far.URL[strings.LastIndex(far.URL, ":")+1:]
	return r
}

// Close ends the servers, and whatever they still send.
func (r *Registry) Close() {
	r.Misbehave()
	for _, end := range r.ends {
		end()
	}
}

// Names are the faults that there are, with what each does.
var Names = map[string]string{
	// The bytes of blobs that are layers: what is smaller than 4 KiB is none.
	"cut":   "a blob ends after a half",
	"reset": "the connection is reset after half a blob",
	"stall": "half a blob, then nothing",
	"slow":  "a blob comes with that many bytes a second",
	"flip":  "a blob's last byte is another",
	"long":  "a blob has a byte more than the manifest says",
	"short": "a blob has a byte less, and says so",
	"gone":  "blobs are not found",
	// Ranges.
	"norange":    "a range is ignored: all comes",
	"wrongrange": "another range comes than was asked for",
	"noresume":   "416 for any range",
	// Answers as a whole.
	"silent":  "no answer at all",
	"hangup":  "the connection is closed without an answer",
	"headers": "megabytes of headers",
	"html":    "200 and a page that asks to log in, for whatever was asked",
	"429":     "too many requests; asks to wait for that many seconds, if it says for how long",
	"503":     "unavailable; the same",
	"date":    "429, and the time to come back as a date, that many seconds from now",
	"500":     "a failure of its own",
	"403":     "forbidden",
	// Documents.
	"huge":    "a manifest of 8 MiB",
	"endless": "a manifest without an end",
	"other":   "another manifest than the one of that digest",
	"config":  "another configuration than the one of that digest",
	"pages":   "a list of tags without an end",
	"nesting": "an index that contains itself",
	// Who may.
	"401":       "no name and password is ever right",
	"token":     "wants a token, and has a service for it",
	"noaccept":  "with token: no token is ever accepted",
	"realm":     "wants a token from elsewhere",
	"ftp":       "wants a token from a realm that is no web address",
	"redirect":  "blobs are elsewhere",
	"loop":      "blobs are where they are",
	"file":      "blobs are in a file of the client's machine",
	"expensive": "blobs are at a private address, 169.254.169.254",
}

var asked = regexp.MustCompile(`^([a-z0-9]+)(?:=(\d+))?(?:\*(\d+))?$`)

// Misbehave replaces the faults by those of the words NAME[=VALUE][*TIMES], and
// forgets what was asked before.
func (r *Registry) Misbehave(words ...string) error {
	faults := map[string]*fault{}
	for _, word := range words {
		m := asked.FindStringSubmatch(word)
		if m == nil || Names[m[1]] == "" {
			return fmt.Errorf("no fault %q", word)
		}
		f := &fault{left: -1}
		f.value, _ = strconv.Atoi(m[2])
		if n, err := strconv.Atoi(m[3]); err == nil {
			f.left = n
		}
		faults[m[1]] = f
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults, r.log, r.pages = faults, nil, 0
	return nil
}

// Log is what was asked since the faults were set, a line for each request:
//
//	GET /v2/box/manifests/latest range= auth=Basic
//
// and "elsewhere" before those to the other host.
func (r *Registry) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.log, "")
}

func (r *Registry) note(place string, req *http.Request) {
	kind, _, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf("%s%s %s range=%s auth=%s\n", place, req.Method, req.URL.RequestURI(), req.Header.Get("Range"), kind))
}

// now says whether a fault is to be seen now, which uses it up; value is what it was given.
func (r *Registry) now(name string) (value int, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.faults[name]
	if f == nil || f.left == 0 {
		return 0, false
	}
	if f.left > 0 {
		f.left--
	}
	return f.value, true
}

// first returns the first of the faults that is to be seen now.
func (r *Registry) first(names ...string) (name string, value int) {
	i := slices.IndexFunc(names, func(n string) (is bool) { value, is = r.now(n); return })
	if i < 0 {
		return "", 0
	}
	return names[i], value
}

func (r *Registry) serveElsewhere(w http.ResponseWriter, req *http.Request) {
	r.note("elsewhere ", req)
	if strings.HasPrefix(req.URL.Path, "/token") {
		fmt.Fprint(w, `{"token":"elsewhere"}`)
		return
	}
	r.good.ServeHTTP(w, req)
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.note("", req)
	switch {
	case strings.HasPrefix(req.URL.Path, "/token"):
		fmt.Fprint(w, `{"token":"mine"}`)
	case !r.permits(w, req), r.fails(w, req):
	case strings.Contains(req.URL.Path, "/blobs/sha256:") && req.Method == http.MethodGet:
		r.blob(w, req)
	default:
		r.document(w, req)
	}
}
