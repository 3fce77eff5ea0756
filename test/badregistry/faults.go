package badregistry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"
)

// refuse answers with a registry's error document.
func refuse(w http.ResponseWriter, code int, what string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"the registry does not want to"}]}`, what)
}

// permits asks for credentials as the faults say, and says whether they will do.
func (r *Registry) permits(w http.ResponseWriter, req *http.Request) bool {
	name, _ := r.first("401", "token", "realm", "ftp")
	_, never := r.now("noaccept")
	realm := map[string]string{
		"401":   `Basic realm="bad"`,
		"token": `Bearer realm="http://` + r.Address + `/token",service="bad"`,
		"realm": `Bearer realm="http://` + r.Elsewhere + `/token",service="bad"`,
		"ftp":   `Bearer realm="file:///etc/passwd",service="bad"`,
	}[name]
	if name == "" || name != "401" && !never && strings.HasPrefix(req.Header.Get("Authorization"), "Bearer ") {
		return true
	}
	w.Header().Set("WWW-Authenticate", realm)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED")
	return false
}

// fails answers any request in a way that is no answer, where a fault says so. The
// greeting, /v2/, is answered: most faults are seen only behind it.
func (r *Registry) fails(w http.ResponseWriter, req *http.Request) bool {
	if req.URL.Path == "/v2/" {
		return false
	}
	name, value := r.first("silent", "hangup", "headers", "html", "429", "503", "date", "500", "403")
	switch name {
	case "":
		return false
	case "silent":
		<-req.Context().Done()
	case "hangup":
		hangUp(w, false)
	case "headers":
		for n := range 64 {
			w.Header().Set(fmt.Sprintf("X-Large-%d", n), strings.Repeat("x", 64<<10))
		}
	case "html":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html>\n<html><body>Welcome to the hotel. Please log in.</body></html>\n")
	case "date":
		w.Header().Set("Retry-After", time.Now().Add(time.Duration(value)*time.Second).UTC().Format(http.TimeFormat))
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS")
	default:
		code, _ := strconv.Atoi(name)
		if value > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(value))
		}
		refuse(w, code, map[int]string{429: "TOOMANYREQUESTS", 503: "UNAVAILABLE", 500: "UNKNOWN", 403: "DENIED"}[code])
	}
	return true
}

// hangUp ends a connection, with a reset if abrupt.
func hangUp(w http.ResponseWriter, abrupt bool) {
	if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok && abrupt {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}

// recorded is the good registry's answer to a request.
func (r *Registry) recorded(req *http.Request) *httptest.ResponseRecorder {
	answer := httptest.NewRecorder()
	r.good.ServeHTTP(answer, req)
	return answer
}

// blob answers with one, badly.
func (r *Registry) blob(w http.ResponseWriter, req *http.Request) {
	whole := req.Clone(req.Context())
	whole.Header.Del("Range")
	answer := r.recorded(whole)
	data := answer.Body.Bytes()
	if answer.Code != http.StatusOK || len(data) < 4096 {
		if _, is := r.now("config"); is {
			data = append(data, '\n')
		}
		w.WriteHeader(answer.Code)
		w.Write(data)
		return
	}
	name, _ := r.first("gone", "redirect", "loop", "file", "expensive")
	places := map[string]string{
		"redirect": "http://" + r.Elsewhere + req.URL.Path, "loop": req.URL.Path,
		"file": "file:///etc/passwd", "expensive": "http://169.254.169.254/latest/meta-data",
	}
	switch {
	case name == "gone":
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN")
		return
	case name != "":
		w.Header().Set("Location", places[name])
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	if from, end, ok := r.asked(w, req, len(data)); ok {
		r.send(w, req, data, from, end)
	}
}

// asked is where the answer to a request for a blob, or a part of one, begins and ends.
func (r *Registry) asked(w http.ResponseWriter, req *http.Request, size int) (from, end int, ok bool) {
	asked := req.Header.Get("Range")
	if asked == "" {
		return 0, size, true
	}
	if _, is := r.now("norange"); is {
		return 0, size, true
	}
	if _, is := r.now("noresume"); is {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		return 0, 0, false
	}
	if n, _ := fmt.Sscanf(asked, "bytes=%d-%d", &from, &end); n < 2 {
		end = size - 1
	}
	end = min(end+1, size)
	if _, is := r.now("wrongrange"); is {
		from = 0
	}
	if from >= end {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "RANGE_INVALID")
		return 0, 0, false
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, end-1, size))
	return from, end, true
}

// send writes that part of a blob: all of it, unless a fault says otherwise.
func (r *Registry) send(w http.ResponseWriter, req *http.Request, data []byte, from, end int) {
	name, rate := r.first("cut", "reset", "stall", "slow", "flip", "long", "short")
	switch data = bytes.Clone(data[:end]); name {
	case "flip":
		data[len(data)-1] ^= 1
	case "long":
		data = append(data, 'x')
	case "short":
		data = data[:len(data)-1]
	}
	data = data[from:]
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.Header().Set("Content-Type", "application/octet-stream")
	if w.Header().Get("Content-Range") != "" {
		w.WriteHeader(http.StatusPartialContent)
	}
	out := http.NewResponseController(w)
	switch name {
	case "cut", "reset", "stall":
		w.Write(data[:len(data)/2])
		out.Flush()
		if name == "stall" {
			<-req.Context().Done()
			return
		}
		hangUp(w, name == "reset")
	case "slow":
		for part := max(rate/20, 1); len(data) > 0 && req.Context().Err() == nil; time.Sleep(50 * time.Millisecond) {
			n := min(part, len(data))
			w.Write(data[:n])
			out.Flush()
			data = data[n:]
		}
	default:
		w.Write(data)
	}
}

// document answers with anything but a blob, badly.
func (r *Registry) document(w http.ResponseWriter, req *http.Request) {
	manifest := strings.Contains(req.URL.Path, "/manifests/")
	if _, is := r.now("pages"); is && strings.HasSuffix(req.URL.Path, "/tags/list") {
		r.mu.Lock()
		r.pages++
		n := r.pages
		r.mu.Unlock()
		w.Header().Set("Link", fmt.Sprintf(`<%s?n=1&last=t%d>; rel="next"`, req.URL.Path, n))
		json.NewEncoder(w).Encode(map[string]any{"name": "x", "tags": []string{fmt.Sprintf("t%d", n)}})
		return
	}
	if !manifest {
		r.good.ServeHTTP(w, req)
		return
	}
	const kind = "application/vnd.oci.image.manifest.v1+json"
	name, _ := r.first("huge", "endless", "other", "nesting")
	switch name {
	case "huge":
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Content-Length", strconv.Itoa(8<<20))
		w.Write(bytes.Repeat([]byte(" "), 8<<20))
	case "endless":
		w.Header().Set("Content-Type", kind)
		for spaces := bytes.Repeat([]byte(" "), 64<<10); req.Context().Err() == nil; {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	case "other":
		answer := r.recorded(req)
		w.Header().Set("Content-Type", answer.Header().Get("Content-Type"))
		w.Write(append(answer.Body.Bytes(), '\n'))
	case "nesting":
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":100,"digest":"sha256:%064d"}]}`, 1)
	default:
		r.good.ServeHTTP(w, req)
	}
}
