package userns

import (
	"context"
	"os"
)

// Probe tries what Enter does, with namespaces of its own that are gone when it
// returns, and says how many IDs could be mapped. The errors are Enter's. With
// alone it maps the user's own ID only, for which nothing needs to be installed.
func Probe(ctx context.Context, alone bool) (ids int, err error) {
	u := lookupUser(os.Getuid())
	maps := idMaps{rangesMap(u.uid, nil), rangesMap(u.gid, nil)}
	if !alone {
		if maps, err = wantedMaps(ctx, u); err != nil {
			return 0, err
		}
	}
	p, err := spawn(ctx, &maps, nil)
	if err != nil {
		return 0, err
	}
	defer p.close()
	return min(total(maps.uid), total(maps.gid)), p.kill()
}

// ProbeProgram finds newuidmap or newgidmap and says whether it has the power
// that it needs. The errors are Enter's.
func ProbeProgram(name string) (path string, err error) {
	if path, err = findProgram(name); err != nil {
		return "", err
	}
	if !canMap(path) {
		return "", &NotSetuidError{Path: path}
	}
	return path, nil
}
