package image

import "slices"

// BuiltOn says whether the image begins with all that p is: its layers, and the
// lines of its history.
func (i *Image) BuiltOn(p *Image) bool {
	if len(p.History) == 0 || len(p.History) >= len(i.History) || len(p.DiffIDs) > len(i.DiffIDs) {
		return false
	}
	return slices.Equal(p.DiffIDs, i.DiffIDs[:len(p.DiffIDs)]) &&
		slices.EqualFunc(p.History, i.History[:len(p.History)], func(a, b History) bool {
			return a.CreatedBy == b.CreatedBy && a.Created.Equal(b.Created)
		})
}

// Parent is the image of all that i was built on last; nil if there is none.
func (i *Image) Parent(all []*Image) *Image {
	var parent *Image
	for _, p := range all {
		if p.ID != i.ID && i.BuiltOn(p) && (parent == nil || len(p.History) > len(parent.History)) {
			parent = p
		}
	}
	return parent
}

// Dangling says that the image has no name, and nothing of all is built on it.
func (i *Image) Dangling(all []*Image) bool { return len(i.Names) == 0 && !i.hasChild(all) }

// Intermediate says that the image has no name, and something of all is built on
// it: a step of a build.
func (i *Image) Intermediate(all []*Image) bool { return len(i.Names) == 0 && i.hasChild(all) }

func (i *Image) hasChild(all []*Image) bool {
	return slices.ContainsFunc(all, func(c *Image) bool { return c.ID != i.ID && c.BuiltOn(i) })
}

// Steps lists the images without a name that i was built on and that nothing
// else is built on, nearest first: intermediate steps of its build.
func (i *Image) Steps(all []*Image) []*Image {
	var steps []*Image
	for _, p := range all {
		if p.ID == i.ID || p.ReadOnly || len(p.Names) > 0 || !i.BuiltOn(p) {
			continue
		}
		others := func(o *Image) bool { return o.ID != i.ID && o.ID != p.ID && len(o.Names) > 0 && o.BuiltOn(p) }
		if !slices.ContainsFunc(all, others) {
			steps = append(steps, p)
		}
	}
	slices.SortFunc(steps, func(a, b *Image) int { return len(b.History) - len(a.History) })
	return steps
}
