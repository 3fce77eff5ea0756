package test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moss/test/hostile"
)

// hostileConf makes the bombs of the corpus small enough to be tried.
const hostileConf = "unpack_max_size = 25165824\nunpack_max_files = 20000\n"

// enoughMemory is what a hostile archive may take beside a harmless one, in KiB.
const enoughMemory = 64 << 10

// hostileCase is one archive at one entrance.
type hostileCase struct {
	name  string
	want  string // of what it says; "" is success, hostile.Any is either
	files func(dir string) (string, error)
	pull  hostile.Files
	same  bool // its layer is that of others
	says  bool // want is said, and it is let in all the same
}

// entrance is a verb that unpacks what it is given.
type entrance struct {
	cases func(canary string) []hostileCase
	// before and after run in a shell around all of them; verb is the arguments of moss,
	// where {} is the archive, and N the number of the case; one without {} reads it
	// from standard input.
	before, verb, after string
}

var entrances = map[string]entrance{
	"load":       {cases: loadCases, verb: "load -q -i {}", after: forget},
	"pull":       {cases: pullCases, verb: "pull -q {}", after: forget},
	"chunked":    {cases: chunkedCases, verb: "pull {}", after: forget},
	"import":     {cases: rootCases("import", "layer"), verb: "import -q {}", after: forget},
	"volume":     {cases: rootCases("volume"), before: "for n in $(seq 160); do moss volume create v$n; done", verb: "volume import vN {}", after: "moss volume rm $(moss volume ls -q | grep ^v)"},
	"cp-running": {cases: rootCases("cp-running", "cp"), before: "moss run -d --name c $box do mkdir $(seq -f /in%g 160) , sleep 1000 && sleep 0.3", verb: "cp - c:/inN", after: "moss rm -ft 0 c"},
	"cp-stopped": {cases: rootCases("cp-stopped", "cp"), before: "moss run --name c $box mkdir $(seq -f /in%g 160)", verb: "cp - c:/inN", after: "moss rm c"},
}

// forget removes the images that were let in.
const forget = "moss rmi -f $(moss images -aq | grep -v $KEPT) 2>/dev/null || [ $(moss images -aq) = $KEPT ]"

// tryHostile is the script command "hostile ENTRANCE": every archive of the corpus
// there. Nothing beside what it is unpacked to changes, little memory is taken, what is
// refused is said with the name of the member, and the store is as it was.
func tryHostile(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: hostile ENTRANCE [CASE…]")
	}
	e, ok := entrances[args[0]]
	if !ok {
		return fmt.Errorf("no entrance %q", args[0])
	}
	h := &trial{ts: ts, e: e, canary: ts.MkAbs("canary")}
	if err := h.prepare(); err != nil {
		return err
	}
	var bad []string
	for n, c := range append([]hostileCase{harmless(args[0])}, e.cases(h.canary)...) {
		if len(args) > 1 && c.name != "harmless" && !slices.Contains(args[1:], c.name) {
			continue
		}
		if err := h.try(c, n+1); err != nil {
			bad = append(bad, fmt.Sprintf("%s: %v", c.name, err))
		}
	}
	out, err := h.shell(e.after)
	if now := h.settled(h.store); err != nil || now != h.store {
		bad = append(bad, fmt.Sprintf("it is not as it was: %v: %s\n%s", err, out, difference(h.store, now)))
	}
	if out, err := h.shell("moss load -q -i box.tar && moss run --rm " + ts.Getenv("box") + " true"); err != nil {
		bad = append(bad, fmt.Sprintf("a harmless image afterwards: %v: %s", err, out))
	}
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "\n"))
	}
	return nil
}

// trial is an entrance being tried.
type trial struct {
	ts       *testscript.TestScript
	e        entrance
	canary   string
	before   string // what is not to change
	store    string // what the store has
	baseline int    // the memory of the harmless case
}

func (h *trial) prepare() error {
	conf := filepath.Join(h.ts.Getenv("HOME"), ".config/moss")
	files := hostile.Files{"file": {Data: []byte("secret")}, "sub/x": {Data: []byte("x")}, "layer.tar": {Data: hostile.Plain()}, "index.json": {Data: []byte("{}")}}
	if err := errors.Join(os.MkdirAll(conf, 0o755), os.WriteFile(conf+"/moss.conf", []byte(hostileConf), 0o644), files.Write(h.canary)); err != nil {
		return err
	}
	if err := images(h.ts, []string{"box"}); err != nil {
		return err
	}
	out, err := h.shell("moss volume create canary; moss run --rm -v canary:/v $box do touch /v/file; moss images -aq")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	lines := strings.Fields(out)
	h.ts.Setenv("KEPT", lines[len(lines)-1])
	h.before, h.store = h.outside(), h.stored()
	if out, err := h.shell(h.e.before); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// shell runs a line as one would type it.
func (h *trial) shell(line string) (string, error) {
	cmd := environed(h.ts, []string{"sh", "-c", line})
	cmd.Env = append(cmd.Env, "box="+h.ts.Getenv("box"), "KEPT="+h.ts.Getenv("KEPT"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// outside is what no archive may change: content, inode, mode, owner and times.
func (h *trial) outside() string {
	var b strings.Builder
	volume := filepath.Join(h.root(), "volumes/canary/_data")
	for _, top := range []string{h.canary, volume, filepath.Join(h.ts.Getenv("HOME"), ".config")} {
		filepath.WalkDir(top, func(path string, _ fs.DirEntry, err error) error {
			var st syscall.Stat_t
			if err == nil {
				err = syscall.Lstat(path, &st)
			}
			data, _ := os.ReadFile(path)
			fmt.Fprintln(&b, path, err, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Mtim, st.Ctim, hostile.Sum(data))
			return nil
		})
	}
	names, err := os.ReadDir(h.ts.MkAbs("."))
	for _, n := range names {
		if n.Name() != "case" {
			fmt.Fprintln(&b, n.Name(), err)
		}
	}
	return b.String()
}

func (h *trial) root() string { return filepath.Join(h.ts.Getenv("HOME"), ".local/share/moss") }

// stored is what the store consists of: layers, images, what is on its way.
func (h *trial) stored() string {
	var b strings.Builder
	for _, dir := range []string{"storage/overlay", "storage/overlay/staging", "storage/overlay-images", "storage/overlay-layers", "storage-tmp", "volumes", "containers"} {
		names, _ := os.ReadDir(filepath.Join(h.root(), dir))
		for _, n := range names {
			if n.Name() != "tempdirs" && n.Name() != "tmp" { // made when something was removed, and empty
				fmt.Fprintln(&b, dir, n.Name())
			}
		}
	}
	return b.String()
}

// settled is what the store consists of when nothing is being removed any more: what
// it is to be, or what it is after a while.
func (h *trial) settled(want string) string {
	for range 300 {
		if h.stored() == want {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return h.stored()
}

func (h *trial) try(c hostileCase, n int) error {
	dir := h.ts.MkAbs("case")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	archive := ""
	if c.pull != nil {
		server := httptest.NewServer(serveLayout(c.pull))
		defer server.Close()
		archive = strings.TrimPrefix(server.URL, "http://") + "/hostile"
	} else {
		var err error
		if archive, err = c.files(dir); err != nil {
			return err
		}
	}
	store := h.stored()
	refused, err := h.run(c, archive, n)
	if c.same && !refused {
		h.shell(h.e.after)
		h.settled(store)
	}
	if now := h.outside(); now != h.before {
		err = errors.Join(err, fmt.Errorf("outside: %s", difference(h.before, now)))
		h.before = now
	}
	if now := h.stored(); refused && now != store {
		err = errors.Join(err, fmt.Errorf("store: %s", difference(store, now)))
	}
	return err
}

var measured = regexp.MustCompile(`(?m)^measured ([0-9.]+) ms ([0-9]+) KiB\n`)

// run does the verb, and looks at what it says, with which code, and what it took.
func (h *trial) run(c hostileCase, archive string, n int) (refused bool, err error) {
	args := []string{"box", "measure", "moss"}
	for _, a := range strings.Fields(h.e.verb) {
		a = strings.ReplaceAll(a, "N", strconv.Itoa(n))
		args = append(args, strings.ReplaceAll(a, "{}", archive))
	}
	cmd := environed(h.ts, args)
	if !strings.Contains(h.e.verb, "{}") {
		in, err := os.Open(archive)
		if err != nil {
			return false, err
		}
		defer in.Close()
		cmd.Stdin = in
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// What waits for ever is a failure, of all processes that hold the output.
	cmd.SysProcAttr, cmd.WaitDelay = &syscall.SysProcAttr{Setpgid: true}, 5*time.Second
	timer := time.AfterFunc(time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	err = cmd.Run()
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return false, err
	}
	m := measured.FindStringSubmatch(out.String())
	if m == nil {
		return false, fmt.Errorf("it was not measured: %s", out.String())
	}
	memory, _ := strconv.Atoi(m[2])
	text := strings.Replace(out.String(), m[0], "", 1)
	h.ts.Logf("%-30s %3d %8s ms %7d KiB %.200q", c.name, code, m[1], memory, text)
	if c.name == "harmless" {
		h.baseline = memory
	}
	switch {
	case memory > h.baseline+enoughMemory:
		return code != 0, fmt.Errorf("it took %d KiB, a harmless one %d: %s", memory, h.baseline, text)
	case code != 0 && code != 125:
		return code != 0, fmt.Errorf("exit code %d: %s", code, text)
	case len(text) > 4000 || strings.ContainsAny(text, "\x1b\x07\x00"):
		return code != 0, fmt.Errorf("it says what nobody can read: %.2000q", text)
	case c.want == hostile.Any:
	case c.says && code != 0:
		return code != 0, fmt.Errorf("it is refused: %s", text)
	case c.says && regexp.MustCompile("(?s)"+c.want).MatchString(text):
	case c.want == "" && code != 0:
		return code != 0, fmt.Errorf("it is refused: %s", text)
	case c.want != "" && code == 0:
		return code != 0, fmt.Errorf("it is accepted")
	case c.want != "" && !regexp.MustCompile("(?s)"+c.want).MatchString(text):
		return code != 0, fmt.Errorf("it does not say %q: %s", c.want, text)
	}
	return code != 0, nil
}

// difference shows the lines that one text has and the other has not.
func difference(a, b string) string {
	var out []string
	for _, l := range strings.Split(a, "\n") {
		if !strings.Contains(b, l+"\n") {
			out = append(out, "- "+l)
		}
	}
	for _, l := range strings.Split(b, "\n") {
		if !strings.Contains(a, l+"\n") {
			out = append(out, "+ "+l)
		}
	}
	return strings.Join(out[:min(len(out), 10)], "\n")
}

// wanted is what an entrance must say of an archive; groups are its further names.
func wanted(other string, instead map[string]string, groups ...string) string {
	for _, g := range groups {
		switch want, ok := instead[g]; {
		case ok && want == hostile.Legal:
			return ""
		case ok:
			return want
		}
	}
	return other
}

// written writes an archive as one file.
func written(data []byte) func(string) (string, error) {
	return func(dir string) (string, error) {
		path := filepath.Join(dir, "archive")
		return path, os.WriteFile(path, data, 0o644)
	}
}

func unpacked(f hostile.Files) func(string) (string, error) {
	return func(dir string) (string, error) { return dir + "/layout", f.Write(dir + "/layout") }
}

// harmless is what the memory of the others is compared with.
func harmless(entrance string) hostileCase {
	layer := hostile.Files{"harmless": {Data: []byte("x")}}.Tar()
	c := hostileCase{name: "harmless", files: written(layer)}
	switch entrance {
	case "load":
		c.files = written(hostile.Docker(layer, layer).Tar())
	case "pull", "chunked":
		c.pull = hostile.Layer(layer, layer)
	}
	return c
}

// streams of an archive: as it is sent, and as it is when it is decompressed.
func bytesOf(a hostile.Archive, canary string) (packed, plain []byte) {
	plain = hostile.Bytes(canary, a.Write)
	if a.Pack != nil {
		return a.Pack(plain), plain
	}
	return plain, plain
}

func rootCases(groups ...string) func(string) []hostileCase {
	return func(canary string) (all []hostileCase) {
		for _, a := range hostile.Archives() {
			files := func(dir string) (string, error) {
				packed, _ := bytesOf(a, canary)
				return written(packed)(dir)
			}
			all = append(all, hostileCase{name: a.Name, want: wanted(a.Error, a.Instead, groups...), files: files})
		}
		return all
	}
}

func loadCases(canary string) (all []hostileCase) {
	for _, a := range hostile.Archives() {
		files := func(dir string) (string, error) {
			packed, plain := bytesOf(a, canary)
			return written(hostile.Docker(packed, plain).Tar())(dir)
		}
		all = append(all, hostileCase{name: a.Name, want: wanted(a.Error, a.Instead, "load", "layer"), files: files})
	}
	for _, i := range slices.Concat(hostile.DockerImages(), hostile.OCIImages()) {
		want := wanted(i.Error, i.Instead, "load")
		all = append(all,
			hostileCase{name: i.Name, same: true, want: want, files: func(dir string) (string, error) { return written(i.Files(canary).Tar())(dir) }},
			hostileCase{name: i.Name + "-directory", same: true, want: want, files: func(dir string) (string, error) { return unpacked(i.Files(canary))(dir) }})
	}
	return all
}

func pullCases(canary string) (all []hostileCase) {
	for _, a := range hostile.Archives() {
		packed, plain := bytesOf(a, canary)
		all = append(all, hostileCase{name: a.Name, want: wanted(a.Error, a.Instead, "pull", "layer"), pull: hostile.Layer(packed, plain)})
	}
	for _, i := range hostile.OCIImages() {
		all = append(all, hostileCase{name: i.Name, same: true, want: wanted(i.Error, i.Instead, "pull"), pull: i.Files(canary)})
	}
	return all
}

// chunkedCases are pulled one after the other into a store that keeps them: what is in it
// is not fetched again. One whose content is another is refused.
func chunkedCases(canary string) (all []hostileCase) {
	for _, i := range hostile.ChunkedImages() {
		all = append(all, hostileCase{name: i.Name, want: i.Error, says: !strings.HasSuffix(i.Name, "-content-other"), pull: i.Files(canary)})
	}
	return all
}

// serveLayout is a registry that answers what an image layout has, and checks nothing.
func serveLayout(f hostile.Files) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rest, ok := strings.CutPrefix(r.URL.Path, "/v2/hostile/")
		if !ok {
			return // the greeting
		}
		kind, ref, _ := strings.Cut(rest, "/")
		file, ok := f["blobs/"+strings.Replace(ref, ":", "/", 1)]
		if kind == "manifests" && ref == "latest" {
			w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			file, ok = f["index.json"]
		} else if kind == "manifests" {
			w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		}
		if !ok || file.Data == nil {
			http.Error(w, `{"errors":[{"code":"NOT_FOUND","message":"not found"}]}`, http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.Data))
	})
}
