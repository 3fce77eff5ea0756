package rootless

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/rootless/container"
	"moss/rootless/runtime"
	"moss/userns"
)

// HostUser finds a user of the host by name or number.
func HostUser(name string) (container.HostUser, error) {
	f := hostLine("/etc/passwd", name)
	if len(f) < 7 {
		return container.HostUser{}, fmt.Errorf("the host's /etc/passwd has no such user")
	}
	uid, err := strconv.Atoi(f[2])
	if err != nil {
		return container.HostUser{}, fmt.Errorf("its line in the host's /etc/passwd is not one")
	}
	gid, err := strconv.Atoi(f[3])
	return container.HostUser{Name: f[0], UID: uid, GID: gid, Comment: f[4], Home: f[5]}, err
}

// hostLine is the first line of /etc/passwd or /etc/group that has the name, or
// the number, of an account.
func hostLine(file, name string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= 4 && (f[0] == name || f[2] == name) {
			return f
		}
	}
	return nil
}

// accounts says which lines the container's passwd and group want, as podman has
// it: the user of the program, where it is a number without a line, and those of
// --hostuser.
func accounts(spec *container.Spec, doc *runtime.Document) {
	p := &spec.Process
	if p.NoPasswd {
		return
	}
	for _, u := range p.HostUsers {
		doc.Passwd = append(doc.Passwd, runtime.Entry{Line: passwdLine(spec, u)})
	}
	user, group, _ := strings.Cut(p.User, ":")
	uid, err := strconv.Atoi(user)
	if err != nil || uid == 0 {
		return
	}
	u := container.HostUser{Name: user, UID: uid, Comment: "container user"}
	gid, noGID := strconv.Atoi(group)
	u.GID = gid
	entry := container.HostUser{Name: group, GID: gid}
	if keepUser(spec.Namespaces.User) == p.User {
		keepNames(&u, &entry)
	}
	line := passwdLine(spec, u)
	if noGID != nil && group != "" { // a name, which the container knows
		line = strings.ReplaceAll(passwdLine(spec, container.HostUser{Name: u.Name, UID: uid, GID: groupByName, Comment: u.Comment}), strconv.Itoa(groupByName), "$GID")
	}
	doc.Passwd = append(doc.Passwd, runtime.Entry{Line: line, ByID: true})
	if noGID == nil && gid != 0 {
		line := p.GroupEntry
		if line == "" {
			line = "$GROUPNAME:x:$GID:$USERLIST"
		}
		line = strings.NewReplacer("$GROUPNAME", entry.Name, "$GID", group, "$USERLIST", u.Name).Replace(line)
		doc.Group = append(doc.Group, runtime.Entry{Line: line, ByID: true})
	}
}

// groupByName stands for a group that is known by its name only.
const groupByName = -12345

// keepNames gives the user of keep-id, and its group, the names that they have on the host.
func keepNames(u, group *container.HostUser) {
	self, err := userns.Self()
	if err != nil {
		return
	}
	if host, err := HostUser(strconv.Itoa(self.UID)); err == nil {
		u.Name, u.Comment, u.Home = host.Name, host.Comment, host.Home
	}
	if line := hostLine("/etc/group", strconv.Itoa(self.GID)); line != nil {
		group.Name = line[0]
	}
}

// passwdLine is a line of /etc/passwd. The home directory of the host counts only
// where it is mounted; else it is the working directory.
func passwdLine(spec *container.Spec, u container.HostUser) string {
	home := spec.Process.Dir
	mounted := func(m container.Mount) bool {
		return u.Home == m.Target || strings.HasPrefix(u.Home, filepath.Clean(m.Target)+"/")
	}
	if u.Home != "" && slices.ContainsFunc(spec.Rootfs.Mounts, mounted) {
		home = u.Home
	}
	line := spec.Process.PasswdEntry
	if line == "" {
		line = "$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/sh"
	}
	return strings.NewReplacer("$USERNAME", u.Name, "$UID", strconv.Itoa(u.UID), "$GID", strconv.Itoa(u.GID), "$NAME", u.Comment, "$HOME", home).Replace(line)
}

// fixSubIDs turns --subuidname and --subgidname into maps. What /etc/subuid gives to
// others, newuidmap(1) would not map.
func fixSubIDs(spec *container.Spec) error {
	n := &spec.Namespaces
	if n.SubUIDName == "" {
		return nil
	}
	self, err := userns.Self()
	if err != nil {
		return err
	}
	own, err := HostUser(strconv.Itoa(self.UID))
	if err != nil {
		own.Name = strconv.Itoa(self.UID)
	}
	for _, name := range []string{n.SubUIDName, n.SubGIDName} {
		if name != own.Name && name != strconv.Itoa(self.UID) {
			return fmt.Errorf("cannot map the subordinate IDs of %q: only your own can be mapped, those of %q", name, own.Name)
		}
	}
	if self.UIDs < 2 || self.GIDs < 2 {
		return fmt.Errorf("cannot map the subordinate IDs of %q: there are none", own.Name)
	}
	n.SubUIDName, n.SubGIDName, n.User = "", "", "map"
	n.UIDMap = []string{"0:1:" + strconv.Itoa(self.UIDs-1)}
	n.GIDMap = []string{"0:1:" + strconv.Itoa(self.GIDs-1)}
	return nil
}
