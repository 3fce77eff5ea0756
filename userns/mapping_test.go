package userns

import (
	"slices"
	"strings"
	"testing"
)

// alice has the IDs of a Debian installation.
var alice = Outer{
	UID: 1000, GID: 1001,
	UIDs: 65537, GIDs: 65537,
	UIDMap: []IDMap{{0, 1000, 1}, {1, 100000, 65536}},
	GIDMap: []IDMap{{0, 1001, 1}, {1, 100000, 65536}},
}

// bob has no subordinate IDs.
var bob = Outer{UID: 1000, GID: 1000, UIDs: 1, GIDs: 1, UIDMap: []IDMap{{0, 1000, 1}}, GIDMap: []IDMap{{0, 1000, 1}}}

// ldap has an ID greater than the number of his subordinate IDs.
var ldap = Outer{UID: 500000, GID: 500000, UIDs: 1001, GIDs: 1001, UIDMap: []IDMap{{0, 500000, 1}, {1, 100000, 1000}}, GIDMap: []IDMap{{0, 500000, 1}, {1, 100000, 1000}}}

func TestParseMakesTheMap(t *testing.T) {
	for _, c := range []struct {
		name, mode     string
		uidmap, gidmap []string
		self           Outer
		uid, gid       []IDMap // nil: no namespace
	}{
		{name: "default", self: alice},
		{name: "host", mode: "host", self: alice},
		{name: "keep-id", mode: "keep-id", self: alice,
			uid: []IDMap{{0, 1, 1000}, {1000, 0, 1}, {1001, 1001, 64536}},
			gid: []IDMap{{0, 1, 1001}, {1001, 0, 1}, {1002, 1002, 64535}}},
		{name: "keep-id of another", mode: "keep-id:uid=70,gid=0", self: alice,
			uid: []IDMap{{0, 1, 70}, {70, 0, 1}, {71, 71, 65466}},
			gid: []IDMap{{0, 0, 65537}}},
		{name: "keep-id size", mode: "keep-id:size=3000", self: alice,
			uid: []IDMap{{0, 1, 1000}, {1000, 0, 1}, {1001, 1001, 1999}},
			gid: []IDMap{{0, 1, 1001}, {1001, 0, 1}, {1002, 1002, 1998}}},
		{name: "keep-id beyond the ranges", mode: "keep-id", self: ldap,
			uid: []IDMap{{0, 1, 1000}, {500000, 0, 1}}, gid: []IDMap{{0, 1, 1000}, {500000, 0, 1}}},
		{name: "keep-id alone", mode: "keep-id", self: bob,
			uid: []IDMap{{1000, 0, 1}}, gid: []IDMap{{1000, 0, 1}}},
		{name: "nomap", mode: "nomap", self: alice, uid: []IDMap{{0, 1, 65536}}, gid: []IDMap{{0, 1, 65536}}},
		{name: "auto", mode: "auto", self: alice, uid: []IDMap{{0, 1, 65536}}, gid: []IDMap{{0, 1, 65536}}},
		{name: "auto size", mode: "auto:size=500", self: alice, uid: []IDMap{{0, 1, 500}}, gid: []IDMap{{0, 1, 500}}},
		{name: "auto after others", mode: "auto:size=500", self: with(alice, 0, IDMap{0, 2001, 3000}, IDMap{0, 1, 1900}),
			uid: []IDMap{{0, 5001, 500}}, gid: []IDMap{{0, 5001, 500}}},
		{name: "auto between others", mode: "auto", self: with(alice, 1100, IDMap{0, 3001, 3000}, IDMap{0, 1, 1900}),
			uid: []IDMap{{0, 1901, 1100}}, gid: []IDMap{{0, 1901, 1100}}},
		{name: "auto takes at least 1024", mode: "auto", self: with(alice, 3), uid: []IDMap{{0, 1, 1024}}, gid: []IDMap{{0, 1, 1024}}},
		{name: "auto takes what is left", mode: "auto", self: with(alice, 0, IDMap{0, 1, 60000}),
			uid: []IDMap{{0, 60001, 5536}}, gid: []IDMap{{0, 60001, 5536}}},
		{name: "map", mode: "map", uidmap: []string{"0:1:10", "10:0"}, self: alice,
			uid: []IDMap{{0, 1, 10}, {10, 0, 1}}, gid: []IDMap{{0, 1, 10}, {10, 0, 1}}},
		{name: "gidmap alone is both", gidmap: []string{"0:0:5"}, self: alice, uid: []IDMap{{0, 0, 5}}, gid: []IDMap{{0, 0, 5}}},
		{name: "host IDs", uidmap: []string{"5:@1000", "6:@100009:2"}, gidmap: []string{"0:0:5"}, self: alice,
			uid: []IDMap{{5, 0, 1}, {6, 10, 2}}, gid: []IDMap{{0, 0, 5}}},
		{name: "the others follow", uidmap: []string{"+1000:0"}, gidmap: []string{"0:0:5"}, self: alice,
			uid: []IDMap{{0, 1, 1000}, {1000, 0, 1}, {1001, 1001, 64536}}, gid: []IDMap{{0, 0, 5}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Parse(c.mode, c.uidmap, c.gidmap, c.self)
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				m = &Mapping{}
			}
			if !slices.Equal(m.UID, c.uid) || !slices.Equal(m.GID, c.gid) {
				t.Errorf("got uid %v gid %v, want uid %v gid %v", m.UID, m.GID, c.uid, c.gid)
			}
		})
	}
}

func with(o Outer, want int, taken ...IDMap) Outer {
	o.Want, o.Taken = want, taken
	return o
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		mode   string
		uidmap []string
		self   Outer
		want   string
	}{
		{"keepid", nil, alice, `cannot use --userns "keepid": the modes are`},
		{"keep-id:uid", nil, alice, `option "uid" is not a valid number`},
		{"keep-id:uid=-1", nil, alice, "not a valid number"},
		{"keep-id:uid=4294967295", nil, alice, "not a valid number"},
		{"keep-id:user=1", nil, alice, `option "user" is unknown; there are uid, gid, size`},
		{"keep-id:uid=1,uid=2", nil, alice, "given twice"},
		{"keep-id:", nil, alice, "unknown"},
		{"keep-id:size=70000", nil, alice, "more than the 65537 IDs"},
		{"keep-id:size=0", nil, alice, "not a valid number"},
		{"host:1", nil, alice, "no options"},
		{"nomap", nil, bob, "subordinate IDs"},
		{"auto", nil, bob, "subordinate IDs"},
		{"auto:size=70000", nil, alice, "it needs 70000 IDs, and the largest free range"},
		{"auto", nil, with(alice, 0, IDMap{0, 1, 65000}), "needs 1024 IDs"},
		{"auto", nil, with(alice, 2000, IDMap{0, 1, 64000}), "needs 2000 IDs"},
		{"container:web", nil, alice, "not resolved"},
		{"map", nil, alice, "needs --uidmap"},
		{"keep-id", []string{"0:0:1"}, alice, "together with --uidmap"},
		{"", []string{"0"}, alice, "CONTAINER:ID[:SIZE]"},
		{"", []string{"0:x:1"}, alice, `"x" is not an ID`},
		{"", []string{"0:0:0"}, alice, "no valid range"},
		{"", []string{"4294967290:0:100"}, alice, "no valid range"},
		{"", []string{"0:60000:6000"}, alice, "0 to 65536"},
		{"", []string{"0:0:10", "9:20:1"}, alice, "same IDs of the container"},
		{"", []string{"0:0:10", "10:9:1"}, alice, "same IDs outside"},
		{"", []string{"0:@1001:1"}, alice, "host IDs 1001-1001 are not the user's, who has 1000-1000, 100000-165535"},
		{"", []string{"u0:0:1"}, alice, "flags u and g"},
	} {
		m, err := Parse(c.mode, c.uidmap, nil, c.self)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%q, %q) = %v, %v; want an error with %q", c.mode, c.uidmap, m, err, c.want)
		}
	}
}

func TestMappingHost(t *testing.T) {
	m, err := Parse("keep-id", nil, nil, alice)
	if err != nil {
		t.Fatal(err)
	}
	if u, g, ok := m.Host(1000, 1001); u != 0 || g != 0 || !ok {
		t.Errorf("the user's own ID is %d:%d, %v outside", u, g, ok)
	}
	if u, g, ok := m.Host(33, 33); u != 34 || g != 34 || !ok {
		t.Errorf("33 is %d:%d, %v outside", u, g, ok)
	}
	if _, _, ok := m.Host(70000, 0); ok {
		t.Error("an ID that is not mapped was found")
	}
	if u, g, ok := (*Mapping)(nil).Host(7, 8); u != 7 || g != 8 || !ok {
		t.Error("without a mapping IDs change")
	}
}
