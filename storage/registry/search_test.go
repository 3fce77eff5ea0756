package registry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A registry that can search is asked to, and what it says of images is told.
func TestSearchOfFirstVersion(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.URL.Path == "/v1/search" && r.URL.Query().Get("q") == "ngi" && r.URL.Query().Get("n") == "2":
			w.Write([]byte(`{"results": [{"name": "nginx", "description": "Official\n build", "star_count": 7, "is_official": true},
				{"name": "ann/nginx", "is_automated": true}, {"name": "one/too-many"}]}`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	found, err := Search(context.Background(), host+"/ngi", SearchOptions{Limit: 2})
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	if f := found[0]; f.Name != host+"/nginx" || f.Description != "Official build" || f.Stars != 7 || !f.IsOfficial || found[1].Name != host+"/ann/nginx" || !found[1].IsAutomated {
		t.Errorf("%+v", found)
	}
	if _, err := Search(context.Background(), host+"/other", SearchOptions{Limit: 2}); err == nil || !strings.Contains(err.Error(), "does not list its repositories") {
		t.Errorf("neither search nor list: %v", err)
	}
}
