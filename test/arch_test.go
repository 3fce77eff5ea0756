package test

import (
	"debug/elf"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers lists moss from the ground up. A package may import its own directory
// and any layer below it, never a layer above. First match wins.
var layers = []struct {
	name      string
	dirs      []string
	strangers bool // the directories of this layer do not see each other
}{
	{"ground", []string{"record"}, true},
	{"host", []string{"userns", "systemd", "config"}, true},
	{"resources", []string{"storage", "slirp"}, true},
	{"parts", []string{"rootless/container", "rootless/pod", "rootless/event", "rootless/logs", "rootless/tree", "rootless/oci", "rootless/monitor", "rootless/runtime"}, false},
	{"engine", []string{"rootless"}, false},
	{"front doors", []string{"completions", "cmd/moss/kube", "cmd/moss/dockerapi"}, false},
	{"programs", []string{"cmd"}, false},
}

// owners lists the heavy dependencies and the directories that may import each.
var owners = map[string]string{
	"go.podman.io/storage":                       "storage cmd/moss-image",
	"github.com/pelletier/go-toml":               "config/files cmd/moss-image",
	"github.com/klauspost":                       "storage",
	"github.com/vbatts/tar-split":                "storage",
	"go.podman.io/image":                         "storage cmd/moss-image",
	"github.com/google/go-containerregistry":     "storage cmd/moss-image test",
	"github.com/vbauerster/mpb":                  "storage cmd/moss-image",
	"github.com/opencontainers/image-spec":       "storage test",
	"github.com/opencontainers/runtime-spec":     "rootless cmd/moss-runtime test/bench",
	"github.com/moby/profiles/seccomp":           "rootless test/bench",
	"github.com/vishvananda/netlink":             "slirp cmd/moss-net",
	"github.com/google/nftables":                 "slirp cmd/moss-net",
	"github.com/mdlayher/netlink":                "slirp cmd/moss-net",
	"gvisor.dev/gvisor":                          "slirp cmd/moss-net",
	"github.com/miekg/dns":                       "slirp cmd/moss-net",
	"github.com/rootless-containers/rootlesskit": "slirp userns",
	"github.com/coreos/go-systemd":               "systemd",
	"github.com/alecthomas/kong":                 "cmd/moss completions",
	"github.com/rogpeppe/go-internal":            "test cmd",
	"go.yaml.in/yaml":                            "cmd/moss-image",
}

// heavy is what only a helper may link: each costs every start of a program
// milliseconds.
var heavy = []string{
	"github.com/pelletier/go-toml", "go.podman.io/storage", "go.podman.io/image", "github.com/google/go-containerregistry", "github.com/vbauerster/mpb",
	"github.com/vishvananda/netlink", "github.com/google/nftables", "gvisor.dev/gvisor", "github.com/miekg/dns",
	"github.com/rootless-containers/rootlesskit", "go.yaml.in/yaml",
}

// mayLink says of that heavy list what each program links all the same.
var mayLink = map[string][]string{
	"moss/test/bench":     {"github.com/google/go-containerregistry"},
	"moss/cmd/moss-image": {"github.com/pelletier/go-toml", "go.podman.io/storage", "go.podman.io/image", "github.com/google/go-containerregistry", "github.com/vbauerster/mpb", "go.yaml.in/yaml"},
	"moss/cmd/moss-net": {"github.com/vishvananda/netlink", "github.com/google/nftables", "gvisor.dev/gvisor", "github.com/miekg/dns",
		"github.com/rootless-containers/rootlesskit"},
}

// small lists packages and programs that link, beside moss and the standard
// library, only the modules named. A monitor stays for as long as its container
// runs: what it links is paid for each; the runtime starts with each container.
var small = map[string][]string{
	"moss/cmd/moss-monitor":       {"golang.org/x/sys"},
	"moss/cmd/moss-generator":     {"golang.org/x/sys"},
	"moss/rootless/monitor":       {"golang.org/x/sys"},
	"moss/rootless/runtime/birth": {"golang.org/x/sys"},
	"moss/slirp":                  {"golang.org/x/sys"},
	"moss/record":                 {"golang.org/x/sys"},
	"moss/userns/slack":           {"golang.org/x/sys"},
	"moss/config":                 {"golang.org/x/sys"},
	"moss/storage/image":          {"golang.org/x/sys"},
	"moss/storage/volume":         {"golang.org/x/sys"},
	"moss/cmd/moss-runtime": {"golang.org/x/sys", "github.com/opencontainers/runtime-spec", "github.com/moby/profiles/seccomp",
		"github.com/containerd/errdefs"},
	"moss/cmd/moss-stage": {"golang.org/x/sys", "github.com/opencontainers/runtime-spec"},
	"moss/test/box":       {},
}

// emptyNames say nothing about what is in a package.
var emptyNames = []string{"util", "utils", "common", "types", "define", "entities", "helper", "helpers", "manager", "misc", "shared", "internal"}

// pkg is what go list tells of a package, and the package comments in its files.
type pkg struct {
	ImportPath, Name, Dir              string
	GoFiles, CgoFiles                  []string
	Imports, TestImports, XTestImports []string
	Deps                               []string
	docs                               []string
}

func (p pkg) dir() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, "moss"), "/") }

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func underAny(path string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(path, d) })
}

// layer returns the number of the layer of a directory, and the entry that matched.
func layer(dir string) (int, string) {
	for i, l := range layers {
		for _, d := range l.dirs {
			if under(dir, d) {
				return i, d
			}
		}
	}
	return -1, ""
}

// violations returns what is wrong with the packages, one sentence each.
func violations(all []pkg) []string {
	var bad []string
	for _, p := range all {
		bad = slices.Concat(bad, layerViolations(p), ownerViolations(p), linkViolations(p), docViolations(p))
		if name := path.Base(p.ImportPath); slices.Contains(emptyNames, name) {
			bad = append(bad, fmt.Sprintf("%s: the name %q does not say what is in it", p.dir(), name))
		}
	}
	return bad
}

func layerViolations(p pkg) (bad []string) {
	if under(p.dir(), "test") {
		return nil
	}
	from, fromDir := layer(p.dir())
	if from < 0 {
		return []string{p.dir() + " is in no layer; add it to layers"}
	}
	for _, i := range p.Imports {
		target, ok := strings.CutPrefix(i, "moss/")
		if !ok {
			continue
		}
		to, toDir := layer(target)
		switch {
		case to > from:
			bad = append(bad, fmt.Sprintf("%s (%s) imports %s (%s), which is above it", p.dir(), layers[from].name, target, layers[to].name))
		case to < 0:
			bad = append(bad, fmt.Sprintf("%s imports %s, which is in no layer", p.dir(), target))
		case to == from && layers[from].strangers && toDir != fromDir:
			bad = append(bad, fmt.Sprintf("%s imports its sibling %s", p.dir(), target))
		}
	}
	return bad
}

func ownerViolations(p pkg) (bad []string) {
	for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		for dep, dirs := range owners {
			if under(i, dep) && !underAny(p.dir(), strings.Fields(dirs)) {
				bad = append(bad, fmt.Sprintf("%s imports %s; only %s may", p.dir(), i, dirs))
			}
		}
	}
	return bad
}

func linkViolations(p pkg) (bad []string) {
	allowed, isSmall := small[p.ImportPath]
	for _, d := range p.Deps {
		if isSmall && thirdParty(d) && !underAny(d, allowed) {
			bad = append(bad, fmt.Sprintf("%s links %s; it may link %v", p.dir(), d, allowed))
		}
		if p.Name == "main" && underAny(d, heavy) && !underAny(d, mayLink[p.ImportPath]) {
			bad = append(bad, fmt.Sprintf("%s links %s, which only a helper may", p.dir(), d))
		}
	}
	return bad
}

// thirdParty reports whether an import path belongs to a module other than moss.
func thirdParty(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return strings.Contains(first, ".")
}

func docViolations(p pkg) []string {
	if len(p.GoFiles)+len(p.CgoFiles) == 0 {
		return nil // tests only
	}
	if n := len(p.docs); n != 1 {
		return []string{fmt.Sprintf("%s has %d package docs; one file tells what it is for", p.dir(), n)}
	}
	want := []string{"Package " + p.Name + " "}
	if name := path.Base(p.ImportPath); p.Name == "main" {
		want = []string{"Command " + name + " ", strings.ToUpper(name[:1]) + name[1:] + " "}
	}
	if !slices.ContainsFunc(want, func(w string) bool { return strings.HasPrefix(p.docs[0], w) }) {
		return []string{fmt.Sprintf("%s: its package doc does not begin with %q", p.dir(), want)}
	}
	return nil
}

// packages asks the go tool for every package of moss, and reads their docs.
func packages(t *testing.T) []pkg {
	t.Helper()
	list := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,Imports,TestImports,XTestImports,Deps", "moss/...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if doc := f.Doc.Text(); doc != "" {
				p.docs = append(p.docs, doc)
			}
		}
		all = append(all, p)
	}
	return all
}

// TestArchitecture: imports point downwards, heavy modules have one door, the
// processes that stay or start often are small, every package says what it is for.
func TestArchitecture(t *testing.T) {
	needSource(t)
	for _, v := range violations(packages(t)) {
		t.Error(v)
	}
}

// TestMonitorIsSmall and TestRuntimeIsSmall: the rule of small is about packages
// that exist under the names it uses.
func TestMonitorIsSmall(t *testing.T) { smallIsThere(t, "moss/cmd/moss-monitor") }
func TestRuntimeIsSmall(t *testing.T) { smallIsThere(t, "moss/cmd/moss-runtime") }

func smallIsThere(t *testing.T, importPath string) {
	needSource(t)
	all := packages(t)
	i := slices.IndexFunc(all, func(p pkg) bool { return p.ImportPath == importPath })
	if i < 0 {
		t.Fatalf("there is no %s", importPath)
	}
	for _, v := range linkViolations(all[i]) {
		t.Error(v)
	}
}

// TestViolationsAreCaught plants one violation of each rule.
func TestViolationsAreCaught(t *testing.T) {
	good := func(importPath string, imports ...string) pkg {
		name := path.Base(importPath)
		return pkg{ImportPath: importPath, Name: name, GoFiles: []string{"a.go"}, Imports: imports, docs: []string{"Package " + name + " is good."}}
	}
	program := func(name string, deps ...string) pkg {
		return pkg{ImportPath: "moss/cmd/" + name, Name: "main", GoFiles: []string{"main.go"}, Deps: deps, docs: []string{"Command " + name + " runs."}}
	}
	undocumented := good("moss/storage/undocumented")
	undocumented.docs = nil
	twice := good("moss/storage/twice")
	twice.docs = append(twice.docs, twice.docs[0])
	misnamed := good("moss/storage/misnamed")
	misnamed.docs = []string{"This package is misnamed."}

	for want, p := range map[string]pkg{
		"":                              good("moss/rootless", "moss/storage/image", "moss/userns", "os"),
		"which is above it":             good("moss/storage", "moss/rootless/event"),
		"imports its sibling":           good("moss/slirp", "moss/storage"),
		"imports its sibling systemd":   good("moss/userns", "moss/systemd"),
		"is in no layer":                good("moss/daemon"),
		"only cmd/moss completions may": good("moss/rootless", "github.com/alecthomas/kong"),
		"does not say what is in it":    good("moss/storage/util"),
		"moss-monitor links":            program("moss-monitor", "os", "github.com/alecthomas/kong"),
		"moss-runtime links":            program("moss-runtime", "github.com/containerd/console"),
		"which only a helper may":       program("moss", "go.podman.io/storage/pkg/idtools"),
		"has 0 package docs":            undocumented,
		"has 2 package docs":            twice,
		"does not begin with":           misnamed,
	} {
		got := violations([]pkg{p})
		if want == "" && len(got) > 0 {
			t.Errorf("%s: %v, want nothing", p.ImportPath, got)
		}
		if want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s: %q, want one with %q", p.ImportPath, got, want)
		}
	}
}

// TestFileSizes: a file that fits in a head. None is above 600 lines.
func TestFileSizes(t *testing.T) {
	needSource(t)
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			limit := 600
			if strings.HasSuffix(file, "_test.go") {
				limit = 800 // tables
			}
			if lines := strings.Count(string(text), "\n"); lines > limit && !ast.IsGenerated(parse(t, file)) {
				t.Errorf("%s/%s has %d lines; above %d it holds a second idea", p.dir(), filepath.Base(file), lines, limit)
			}
		}
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestProgramsAreStatic: what is built runs on any Linux, whatever its libc.
func TestProgramsAreStatic(t *testing.T) {
	dir := binaries()
	for _, name := range []string{"moss", "moss-image", "moss-monitor", "moss-runtime", "moss-net", "box"} {
		f, err := elf.Open(filepath.Join(dir, name))
		if os.IsNotExist(err) {
			t.Skipf("%s is not built: run make build first", name)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range f.Progs {
			if s.Type == elf.PT_INTERP {
				t.Errorf("%s asks for a dynamic linker", name)
			}
		}
		if libraries, _ := f.ImportedLibraries(); len(libraries) > 0 {
			t.Errorf("%s needs %v", name, libraries)
		}
		if s := f.Section(".symtab"); s != nil {
			t.Errorf("%s is not stripped", name)
		}
		f.Close()
	}
}

// binaries is where the programs under test are: MOSS_BIN, else the build tree's.
func binaries() string {
	if dir := os.Getenv("MOSS_BIN"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs("../bin")
	if err != nil {
		return "../bin"
	}
	return dir
}

// needSource skips a test that reads the source where there is none, as when
// the compiled tests run as another user.
func needSource(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("../go.mod"); err != nil {
		t.Skip("no source here")
	}
}
