package cli

import (
	"context"
	"fmt"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
)

// SystemDfCmd is "moss system df".
type SystemDfCmd struct {
	Globals
	Format  string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Verbose bool   `short:"v" help:"Show each image, container and volume, and what the rest is."`
}

func (cmd *SystemDfCmd) prepare() error {
	if cmd.Verbose && cmd.Format != "" && cmd.Format != "json" {
		return usagef("--verbose can be combined with --format json only")
	}
	return nil
}

// Run measures the disk, and so takes as long as du does.
func (cmd *SystemDfCmd) Run(ctx context.Context, c *call) error {
	u, err := c.Engine.DiskUsage(ctx)
	if err != nil {
		return err
	}
	if cmd.Verbose {
		return cmd.each(c, u)
	}
	rows := dfRows(u)
	table := format.Table{Columns: []format.Column{
		{Header: "TYPE", Cell: ".Type"}, {Header: "TOTAL", Cell: ".Total"}, {Header: "ACTIVE", Cell: ".Active"},
		{Header: "SIZE", Cell: ".Size"}, {Header: "RECLAIMABLE", Cell: ".Reclaimable"},
	}, Headers: map[string]string{"RawSize": "RAWSIZE", "RawReclaimable": "RAWRECLAIMABLE", "TotalCount": "TOTALCOUNT"}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// dfRow is one line, with podman's names. Size and Reclaimable are for people.
type dfRow struct {
	Type           string
	Total          int
	Active         int
	RawSize        int64
	RawReclaimable int64
	TotalCount     int
	Size           string
	Reclaimable    string
}

func newDfRow(kind string, total, active int, size, free int64) dfRow {
	percent := 0.0
	if size > 0 {
		percent = 100 * float64(free) / float64(size)
	}
	return dfRow{kind, total, active, size, free, total, format.Size(size, ""), fmt.Sprintf("%s (%.0f%%)", format.Size(free, ""), percent)}
}

// dfRows sums up; the last row is what is in none of podman's three.
func dfRows(u *rootless.DiskUsage) []dfRow {
	active := 0
	for _, img := range u.Images {
		if img.Containers > 0 {
			active++
		}
	}
	rows := []dfRow{newDfRow("Images", len(u.Images), active, u.ImageBytes, u.FreeImageBytes)}
	var size, free int64
	active = 0
	for _, ctr := range u.Containers {
		size += ctr.Bytes
		if ctr.View.Live != nil {
			active++
		} else {
			free += ctr.Bytes
		}
	}
	rows = append(rows, newDfRow("Containers", len(u.Containers), active, size, free))
	size, free, active = 0, 0, 0
	for _, vol := range u.Volumes {
		size += vol.Bytes
		if vol.Links > 0 {
			active++
		} else {
			free += vol.Bytes
		}
	}
	rows = append(rows, newDfRow("Local Volumes", len(u.Volumes), active, size, free))
	size, free, active = 0, 0, 0
	total := 0
	for _, other := range u.Other {
		size += other.Bytes
		total += other.Count
		if other.Free {
			free += other.Bytes
		} else {
			active += other.Count
		}
	}
	return append(rows, newDfRow("Other", total, active, size, free))
}

// byteCount is for people in a table, and a number in JSON; since is how long ago,
// or a time.
type (
	byteCount int64
	since     struct{ time.Time }
)

func (n byteCount) String() string { return format.Size(int64(n), "") }
func (t since) String() string     { return format.Ago(t.Time) }

// dfDetail is what --verbose shows.
type dfDetail struct {
	Images     []dfImage
	Containers []dfContainer
	Volumes    []dfVolume
	Other      []dfOther
}

type (
	dfImage struct {
		Repository, Tag, ImageID     string
		Created                      since
		Size, SharedSize, UniqueSize byteCount
		Containers                   int
	}
	dfContainer struct {
		ContainerID, Image, Command string
		LocalVolumes                int
		Size                        byteCount
		Created                     since
		Status, Names               string
	}
	dfVolume struct {
		VolumeName string
		Links      int
		Size       byteCount
	}
	dfOther struct {
		Kind              string
		Count             int
		Size, Reclaimable byteCount
	}
)

// each prints a table of each kind.
func (cmd *SystemDfCmd) each(c *call, u *rootless.DiskUsage) error {
	all := c.dfDetail(u)
	if cmd.Format == "json" {
		return format.JSON(c.Out, all)
	}
	size := format.Column{Header: "SIZE", Cell: ".Size"}
	for i, part := range []struct {
		title string
		rows  any
		table format.Table
	}{
		{"Images", all.Images, format.Table{Columns: []format.Column{
			{Header: "REPOSITORY", Cell: ".Repository"}, {Header: "TAG", Cell: ".Tag"}, {Header: "IMAGE ID", Cell: ".ImageID"}, {Header: "CREATED", Cell: ".Created"},
			size, {Header: "SHARED SIZE", Cell: ".SharedSize"}, {Header: "UNIQUE SIZE", Cell: ".UniqueSize"}, {Header: "CONTAINERS", Cell: ".Containers"}}}},
		{"Containers", all.Containers, format.Table{Columns: []format.Column{
			{Header: "CONTAINER ID", Cell: ".ContainerID"}, {Header: "IMAGE", Cell: ".Image"}, {Header: "COMMAND", Cell: ".Command"},
			{Header: "LOCAL VOLUMES", Cell: ".LocalVolumes"}, size, {Header: "CREATED", Cell: ".Created"}, {Header: "STATUS", Cell: ".Status"}, {Header: "NAMES", Cell: ".Names"}}}},
		{"Local Volumes", all.Volumes, format.Table{Columns: []format.Column{
			{Header: "VOLUME NAME", Cell: ".VolumeName"}, {Header: "LINKS", Cell: ".Links"}, size}}},
		{"Other", all.Other, format.Table{Columns: []format.Column{
			{Header: "KIND", Cell: ".Kind"}, {Header: "COUNT", Cell: ".Count"}, size, {Header: "RECLAIMABLE", Cell: ".Reclaimable"}}}},
	} {
		if i > 0 {
			fmt.Fprintln(c.Out)
		}
		fmt.Fprintf(c.Out, "%s space usage:\n\n", part.title)
		if err := part.table.Print(c.Out, "", part.rows, nil); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) dfDetail(u *rootless.DiskUsage) dfDetail {
	all := dfDetail{[]dfImage{}, []dfContainer{}, []dfVolume{}, []dfOther{}}
	for _, img := range u.Images {
		row := imageRow{img: img.Image}
		if len(img.Image.Names) > 0 {
			row.name = img.Image.Names[0]
		}
		all.Images = append(all.Images, dfImage{
			row.Repository(), row.Tag(), row.ID(), since{img.Image.Created},
			byteCount(img.Shared + img.Unique), byteCount(img.Shared), byteCount(img.Unique), img.Containers,
		})
	}
	images := imageCache{c: c}
	for _, ctr := range u.Containers {
		r := psRow{row: &row{ctr.Container, ctr.View}, images: &images}
		all.Containers = append(all.Containers, dfContainer{
			r.ID(), r.Image(), r.Command(), ctr.Volumes, byteCount(ctr.Bytes), since{ctr.Container.Spec.Created}, string(ctr.View.Status), r.Names(),
		})
	}
	for _, vol := range u.Volumes {
		all.Volumes = append(all.Volumes, dfVolume{vol.Volume.Name, vol.Links, byteCount(vol.Bytes)})
	}
	for _, other := range u.Other {
		row := dfOther{other.Kind, other.Count, byteCount(other.Bytes), 0}
		if other.Free {
			row.Reclaimable = row.Size
		}
		all.Other = append(all.Other, row)
	}
	return all
}
