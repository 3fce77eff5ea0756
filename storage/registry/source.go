package registry

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"moss/storage/image"
)

// source is one place that a reference can be fetched from: the registry of its
// name, or a mirror.
type source struct {
	ref      image.Reference // as the registry is asked for it
	insecure bool            // plain HTTP and unknown certificates are allowed
}

// candidate is one full name that a reference may mean, with its sources in the
// order to try.
type candidate struct {
	name    image.Reference // as the image will be called
	sources []source
}

// system is how the containers libraries are told about configuration files.
func system(access Access) *types.SystemContext {
	return &types.SystemContext{
		AuthFilePath: cmp.Or(access.AuthFile, os.Getenv("REGISTRY_AUTH_FILE")),
		SystemRegistriesConfPath: cmp.Or(os.Getenv("CONTAINERS_REGISTRIES_CONF"),
			os.Getenv("REGISTRIES_CONFIG_PATH")),
	}
}

// candidates resolves a reference by registries.conf: a short name by its alias,
// else by the unqualified-search-registries, else it is docker.io's. Nobody is
// ever asked.
func candidates(sys *types.SystemContext, ref string, access Access) ([]candidate, error) {
	r, err := image.Parse(ref)
	if err != nil {
		return nil, err
	}
	names := []image.Reference{r}
	if r.Registry == "" {
		if names, err = expand(sys, r); err != nil {
			return nil, err
		}
	}
	var all []candidate
	for _, name := range names {
		c, err := locate(sys, name.Complete(), access)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// expand lists the full names that a short name may mean.
func expand(sys *types.SystemContext, r image.Reference) ([]image.Reference, error) {
	mode, err := sysregistriesv2.GetShortNameMode(sys)
	if err != nil {
		return nil, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, r.Repository)
	if err != nil {
		return nil, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	if alias != nil && mode != types.ShortNameModeDisabled {
		full := r
		full.Registry, full.Repository = reference.Domain(alias), reference.Path(alias)
		return []image.Reference{full}, nil
	}
	search, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return nil, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	if len(search) == 0 {
		search = []string{"docker.io"}
	}
	var all []image.Reference
	for _, registry := range search {
		full, err := image.Parse(registry + "/" + r.String())
		if err != nil {
			return nil, fmt.Errorf("cannot use unqualified-search-registries of registries.conf: %w", err)
		}
		all = append(all, full)
	}
	if len(all) > 1 && mode == types.ShortNameModeEnforcing {
		return nil, &ambiguousError{all}
	}
	return all, nil
}

// ambiguousError is a short name that registries.conf wants somebody to choose for.
type ambiguousError struct{ names []image.Reference }

func (e *ambiguousError) Error() string {
	text := "short-name-mode is enforcing in registries.conf, and the short name may be"
	for i, n := range e.names {
		if i > 0 {
			text += " or"
		}
		text += " " + n.Name()
	}
	return text + "; give the full name"
}

// locate finds the mirrors of a full name.
func locate(sys *types.SystemContext, name image.Reference, access Access) (candidate, error) {
	c := candidate{name: name}
	named, err := reference.ParseNormalizedNamed(name.String())
	if err != nil {
		return c, fmt.Errorf("%w %q: %w", image.ErrInvalid, name, err)
	}
	registry, err := sysregistriesv2.FindRegistry(sys, name.String())
	if err != nil {
		return c, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	if registry == nil {
		c.sources = []source{{ref: name, insecure: access.insecure(isLoopback(name.Registry))}}
		return c, nil
	}
	if registry.Blocked {
		return c, fmt.Errorf("registry of %q is blocked in registries.conf", name)
	}
	places, err := registry.PullSourcesFromReference(named)
	if err != nil {
		return c, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	for _, place := range places {
		ref, err := image.Parse(place.Reference.String())
		if err != nil {
			return c, fmt.Errorf("cannot use mirror %q of registries.conf: %w", place.Reference, err)
		}
		c.sources = append(c.sources, source{ref: ref.Complete(), insecure: access.insecure(place.Endpoint.Insecure)})
	}
	return c, nil
}

// isLoopback says whether a registry is on this machine. As with Docker, such a
// one need not speak TLS, unless --tls-verify or registries.conf says so.
func isLoopback(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
