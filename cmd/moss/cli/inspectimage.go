package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"moss/storage/image"
)

// imageView is an image as inspect shows it, with podman's names.
type imageView struct {
	Id           string
	Digest       string
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      *time.Time
	Config       imageConfigView
	Version      string
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	VirtualSize  int64
	GraphDriver  driverView
	RootFS       rootFSView
	Labels       map[string]string
	Annotations  map[string]string
	ManifestType string
	User         string
	History      []historyView
	NamesHistory []string
}

// ID lets templates of podman's own field name work.
func (v imageView) ID() string { return v.Id }

type imageConfigView struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	OnBuild      []string            `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
	Healthcheck  *image.Healthcheck  `json:",omitempty"`
}

type rootFSView struct {
	Type   string
	Layers []string
}

type historyView struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// inspectImage looks at one image's record.
func (c *call) inspectImage(ctx context.Context, name string) (any, error) {
	img, err := c.Engine.Image(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("cannot inspect image %q: %w", name, err)
	}
	g := img.Config
	v := imageView{
		Id: img.ID, Digest: img.Digest, RepoTags: list(img.Names), RepoDigests: repoDigests(img), Created: &img.Created,
		Author: img.Author, Architecture: img.Arch, Variant: img.Variant, Os: img.OS, Size: img.Size, VirtualSize: img.Size,
		Config: imageConfigView{
			User: g.User, ExposedPorts: g.ExposedPorts, Env: g.Env, Entrypoint: g.Entrypoint, Cmd: g.Cmd, Volumes: g.Volumes,
			WorkingDir: g.WorkingDir, Labels: g.Labels, StopSignal: g.StopSignal, OnBuild: g.OnBuild, Shell: g.Shell, Healthcheck: g.Healthcheck,
		},
		GraphDriver: driverView{Name: "overlay", Data: map[string]string{}}, RootFS: rootFSView{"layers", list(img.DiffIDs)},
		Labels: g.Labels, Annotations: img.Annotations, ManifestType: img.ManifestType, User: g.User, NamesHistory: list(img.Names), History: []historyView{},
	}
	if v.Annotations == nil {
		v.Annotations = map[string]string{}
	}
	if len(img.Lower) > 0 {
		v.GraphDriver.Data["UpperDir"] = img.Lower[0]
	}
	if len(img.Lower) > 1 {
		v.GraphDriver.Data["LowerDir"] = strings.Join(img.Lower[1:], ":")
	}
	for _, h := range img.History {
		view := historyView{CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, EmptyLayer: h.EmptyLayer}
		if !h.Created.IsZero() {
			view.Created = &h.Created
		}
		v.History = append(v.History, view)
		v.Comment = h.Comment
	}
	return v, nil
}
