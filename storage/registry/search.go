package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"moss/storage/image"
)

// SearchOptions of Search.
type SearchOptions struct {
	Access
	Limit int // results of each registry; 0: 25
	// Tags lists the tags of one repository instead.
	Tags bool
	// Say is told of registries that do not answer, while others do.
	Say func(format string, args ...any)
}

// maxCatalog is how many repositories of a registry are looked at, which cannot search itself.
const maxCatalog = 10_000

// Search looks for a word in the names of repositories: in the registry that stands
// before it, else in the unqualified-search-registries, else in docker.io.
func Search(ctx context.Context, term string, o SearchOptions) ([]image.Found, error) {
	o.Limit = cmp.Or(o.Limit, 25)
	found, err := search(ctx, term, o)
	if err != nil {
		return nil, fmt.Errorf("cannot search for %q: %w", term, err)
	}
	return found, nil
}

func search(ctx context.Context, term string, o SearchOptions) ([]image.Found, error) {
	sys := system(o.Access)
	if o.Tags {
		return listTags(ctx, sys, term, o)
	}
	registries := []string{}
	if first, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		registries, term = []string{first}, rest
	}
	if len(registries) == 0 {
		var err error
		if registries, err = sysregistriesv2.UnqualifiedSearchRegistries(sys); err != nil {
			return nil, fmt.Errorf("cannot read registries.conf: %w", err)
		}
		if len(registries) == 0 {
			registries = []string{"docker.io"}
		}
	}
	var all []image.Found
	var failed error
	n := 0
	for _, r := range registries {
		found, err := searchOne(ctx, sys, r, term, o)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("in %q: %w", r, err))
			n++
			continue
		}
		all = append(all, found...)
	}
	if n == len(registries) {
		return nil, failed
	}
	if failed != nil {
		o.Say("Warning: cannot search %v", failed)
	}
	return all, nil
}

// listTags lists the tags of a repository.
func listTags(ctx context.Context, sys *types.SystemContext, term string, o SearchOptions) ([]image.Found, error) {
	r, err := image.Parse(term)
	if err != nil {
		return nil, err
	}
	if r.Registry == "" || r.Tag != "" || r.Digest != "" {
		return nil, errors.New("want the full name of a repository, with its registry and without a tag")
	}
	found, err := locate(sys, r.Complete(), o.Access)
	if err != nil {
		return nil, err
	}
	c, err := connect(ctx, sys, found.sources[len(found.sources)-1], o.Access, "pull")
	if err != nil {
		return nil, err
	}
	tags, err := c.tags(ctx)
	if err != nil {
		return nil, c.guard.explain(err)
	}
	var out []image.Found
	for _, tag := range tags[:min(len(tags), o.Limit)] {
		out = append(out, image.Found{Index: r.Registry, Name: found.name.Name(), Tag: tag})
	}
	return out, nil
}

// searchOne asks one registry: its own search (of the first version of the protocol,
// which Docker Hub and others still have), else its list of repositories.
func searchOne(ctx context.Context, sys *types.SystemContext, registry, term string, o SearchOptions) ([]image.Found, error) {
	configured, err := sysregistriesv2.FindRegistry(sys, registry)
	if err != nil {
		return nil, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	if configured != nil && configured.Blocked {
		return nil, errors.New("the registry is blocked in registries.conf")
	}
	auth, err := credentials(sys, image.Reference{Registry: registry, Repository: "repository"}, o.Access)
	if err != nil {
		return nil, err
	}
	c, host, err := greet(ctx, sys, registry, o.Access, auth, "registry:catalog:*")
	if err != nil {
		return nil, err
	}
	if term != "" {
		if found, err := c.searchV1(ctx, host, registry, term, o.Limit); err == nil {
			return found, nil
		}
	}
	return c.catalog(ctx, host, registry, term, o.Limit)
}

func (c *client) searchV1(ctx context.Context, host, registry, term string, limit int) ([]image.Found, error) {
	query := url.Values{"q": {term}, "n": {fmt.Sprint(limit)}}
	data, _, err := c.answer(ctx, "https://"+host+"/v1/search?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Results []struct {
			Name, Description string
			Stars             int  `json:"star_count"`
			Official          bool `json:"is_official"`
			Automated         bool `json:"is_automated"`
		}
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, err
	}
	var out []image.Found
	for _, r := range answer.Results[:min(len(answer.Results), limit)] {
		name := strings.TrimPrefix(r.Name, registry+"/")
		if registry == "docker.io" && !strings.Contains(name, "/") {
			name = "library/" + name
		}
		out = append(out, image.Found{
			Index: registry, Name: registry + "/" + name, Description: strings.Join(strings.Fields(r.Description), " "),
			Stars: r.Stars, IsOfficial: r.Official, IsAutomated: r.Automated,
		})
	}
	return out, nil
}

// catalog looks through all names (distribution's "catalog", which is paged as tags are).
func (c *client) catalog(ctx context.Context, host, registry, term string, limit int) (out []image.Found, err error) {
	next, err := url.Parse("https://" + host + "/v2/_catalog?n=1000")
	if err != nil {
		return nil, err
	}
	for seen := 0; seen < maxCatalog; {
		data, headers, err := c.answer(ctx, next.String(), nil)
		if err != nil {
			return nil, c.guard.explain(fmt.Errorf("it has no search, and does not list its repositories: %w", err))
		}
		var page struct{ Repositories []string }
		if err := json.Unmarshal(data, &page); err != nil {
			return nil, err
		}
		for _, name := range page.Repositories {
			if !strings.Contains(name, term) {
				continue
			}
			if out = append(out, image.Found{Index: registry, Name: registry + "/" + name}); len(out) == limit {
				return out, nil
			}
		}
		link, _, more := strings.Cut(strings.TrimPrefix(headers.Get("Link"), "<"), ">")
		if !more || len(page.Repositories) == 0 {
			break
		}
		seen += len(page.Repositories)
		if next, err = next.Parse(link); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b image.Found) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
