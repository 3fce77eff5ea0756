package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// write makes files below dir: "name" a file with that text, "name/" a directory,
// "name -> target" a symbolic link.
func write(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		path := filepath.Join(dir, name)
		link, target, isLink := strings.Cut(name, " -> ")
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, filepath.Join(dir, link))
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o750)
		default:
			err = os.WriteFile(path, []byte(text), 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// list is what is below dir, in the words of write, links without the spaces.
func list(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || name == ".":
			return err
		case d.IsDir():
			out = append(out, name+"/")
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			out = append(out, name+"->"+target)
		default:
			data, _ := os.ReadFile(path)
			out = append(out, name+"="+string(data))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func entry(t *testing.T, r Root, path string) *Entry {
	t.Helper()
	e, err := r.Entry(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A copy is as the original: links, holes, modes, times and names of one file.
func TestCopy(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/", "a/d/", "a/f=text", "a/d/g=more", "a/l -> /nowhere")
	if err := os.Link(dir+"/a/f", dir+"/a/d/same"); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(dir + "/a/sparse")
	if err != nil {
		t.Fatal(err)
	}
	sparse.WriteAt([]byte("end"), 64<<20)
	sparse.Close()
	old := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	if err := errors.Join(unix.Chmod(dir+"/a/f", 0o4711), os.Chtimes(dir+"/a/d", old, old), os.Chtimes(dir+"/a/f", old, old)); err != nil {
		t.Fatal(err)
	}
	if err := Copy(t.Context(), entry(t, Host(), dir+"/a"), entry(t, Host(), dir+"/b"), false, Options{}); err != nil {
		t.Fatal(err)
	}
	os.Truncate(dir+"/a/sparse", 0)
	var st, other unix.Stat_t
	if unix.Stat(dir+"/b/sparse", &st); st.Size != 64<<20+3 || st.Blocks*512 > 1<<20 {
		t.Errorf("sparse: %d bytes in %d blocks", st.Size, st.Blocks)
	}
	os.Truncate(dir+"/b/sparse", 0)
	if a, b := list(t, dir+"/a"), list(t, dir+"/b"); a != b {
		t.Errorf("%s\n%s", a, b)
	}
	unix.Stat(dir+"/b/f", &st)
	unix.Stat(dir+"/b/d/same", &other)
	if st.Ino != other.Ino || st.Mode&0o7777 != 0o4711 || st.Mtim.Nano() != old.UnixNano() {
		t.Errorf("%+v %+v", st, other)
	}
	if unix.Stat(dir+"/b/d", &st); st.Mtim.Nano() != old.UnixNano() {
		t.Error("the directory's time is another")
	}
}

// Where something is already: files are replaced, directories laid over each
// other, and one is put in place of the other only with Overwrite. A link in the
// way is not followed.
func TestCopyOver(t *testing.T) {
	for name, c := range map[string]struct {
		there     string
		overwrite bool
		want      string // "" is an error
	}{
		"files":            {there: "b/ b/f=old b/kept=k", want: "d/ d/g=new f=new kept=k"},
		"directory":        {there: "b/ b/f/"},
		"directory, over":  {there: "b/ b/f/", overwrite: true, want: "d/ d/g=new f=new"},
		"no directory":     {there: "b/ b/d=file"},
		"file, over":       {there: "b/ b/d=file", overwrite: true, want: "d/ d/g=new f=new"},
		"link to a file":   {there: "out=old b/|f -> ../out", want: "d/ d/g=new f=new"},
		"link to outside":  {there: "o/ b/|d -> ../o"},
		"link, over":       {there: "o/ b/|d -> ../o", overwrite: true, want: "d/ d/g=new f=new"},
		"dangling, inside": {there: "b/|f -> ../made", want: "d/ d/g=new f=new"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "a/", "a/d/", "a/f=new", "a/d/g=new")
			there, link, _ := strings.Cut(c.there, "|")
			write(t, dir, strings.Fields(there)...)
			if link != "" {
				write(t, dir+"/b", link)
			}
			err := Copy(t.Context(), entry(t, Host(), dir+"/a"), entry(t, Host(), dir+"/b"), true, Options{Overwrite: c.overwrite})
			if c.want == "" {
				if !errors.Is(err, ErrKind) {
					t.Errorf("no error: %v, %s", err, list(t, dir))
				}
			} else if got := list(t, dir+"/b"); err != nil || got != c.want {
				t.Errorf("%v, %s", err, got)
			}
			if all := list(t, dir); strings.Contains(all, "o/g") || strings.Contains(all, "out=new") || strings.Contains(all, "made") {
				t.Errorf("a link was followed: %s", all)
			}
		})
	}
}

// A directory that is copied into itself ends.
func TestCopyIntoItself(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "f=x")
	if err := Copy(t.Context(), entry(t, Host(), dir), entry(t, Host(), dir+"/sub"), false, Options{}); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dir); got != "f=x sub/ sub/f=x" {
		t.Error(got)
	}
}

// An interrupted copy leaves no half file.
func TestCopyInterrupted(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/", "a/f=x", "b/")
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Owner: func(uid, gid uint32) (int, int, error) { cancel(); return int(uid), int(gid), ctx.Err() }}
	err := Copy(ctx, entry(t, Host(), dir+"/a/f"), entry(t, Host(), dir+"/b/f"), false, o)
	if !errors.Is(err, context.Canceled) || list(t, dir+"/b") != "" {
		t.Errorf("%v, %q", err, list(t, dir+"/b"))
	}
}

// Nothing leads out of a confined root: neither for reading nor for writing.
func TestConfined(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "secret=s", "root/", "root/etc/", "root/etc/secret=inner", "root/abs -> "+dir, "root/up -> ../../..", "root/file -> ../secret", "root/loop -> loop")
	root := Confined(open(t, dir+"/root"))
	for path, want := range map[string]string{
		"/file": "", "file": "", "../secret": "", "/abs/secret": "", "up/etc/secret": "inner", "/../../etc/./secret": "inner", "loop": "",
	} {
		e, err := root.Entry(path)
		if err != nil {
			if want != "" {
				t.Errorf("%q: %v", path, err)
			}
			continue
		}
		got := ""
		if e.Exists {
			if f, err := (&node{dir: int(e.Dir.Fd()), name: e.Name}).open(); err == nil {
				data, _ := io.ReadAll(f)
				f.Close()
				got = string(data)
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
		e.Close()
	}
}

// archiveOf makes an archive of headers; files hold their own name.
func archiveOf(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		h.Mode, h.Uid, h.Gid = 0o644, os.Getuid(), os.Getgid()
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len("content"))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			io.WriteString(w, "content")
		}
	}
	w.Close()
	return &b
}

// An archive reaches nothing outside of the root, whatever its names and links.
func TestExtractHostile(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dots":             {{Typeflag: tar.TypeReg, Name: "../made"}},
		"dots in between":  {{Typeflag: tar.TypeReg, Name: "a/../../made"}},
		"absolute":         {{Typeflag: tar.TypeReg, Name: "/made"}},
		"link, then file":  {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/"}, {Typeflag: tar.TypeReg, Name: "l/../made"}},
		"relative link":    {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../../.."}, {Typeflag: tar.TypeReg, Name: "l/made"}},
		"link to the host": {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "HOST"}, {Typeflag: tar.TypeReg, Name: "l/made"}},
		"file over a link": {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "HOST/made"}, {Typeflag: tar.TypeReg, Name: "l"}},
		"hard link out":    {{Typeflag: tar.TypeLink, Name: "l", Linkname: "../../secret"}, {Typeflag: tar.TypeReg, Name: "l"}},
		"hard link by a link": {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "HOST"},
			{Typeflag: tar.TypeLink, Name: "h", Linkname: "l/secret"}},
		"directory by a link": {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "HOST"}, {Typeflag: tar.TypeDir, Name: "l/made/"}},
		"link that was there": {{Typeflag: tar.TypeReg, Name: "there/made"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "secret=s", "root/", "root/d/", "root/d/there -> "+dir)
			for i := range headers {
				headers[i].Linkname = strings.ReplaceAll(headers[i].Linkname, "HOST", dir)
			}
			err := Extract(t.Context(), archiveOf(t, headers...), Confined(open(t, dir+"/root")), "/d", Options{})
			for _, line := range strings.Fields(list(t, dir)) {
				if !strings.HasPrefix(line, "root/") && line != "secret=s" {
					t.Errorf("%s was made (error: %v)", line, err)
				}
				if strings.HasPrefix(line, "root/") && strings.HasSuffix(line, "=s") {
					t.Errorf("the host's file is %s", line)
				}
			}
		})
	}
}

// What Tree writes, Extract makes again.
func TestArchive(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/", "a/d/", "a/f=text", "a/d/g=more", "a/l -> f", "root/", "root/in/")
	os.Link(dir+"/a/f", dir+"/a/d/same")
	var b bytes.Buffer
	w := NewWriter(t.Context(), &b, Options{})
	if err := errors.Join(w.Tree(entry(t, Host(), dir+"/a"), "x"), w.Close()); err != nil {
		t.Fatal(err)
	}
	if err := Extract(t.Context(), &b, Confined(open(t, dir+"/root")), "/in", Options{}); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, dir+"/root/in/x"), list(t, dir+"/a"); got != want {
		t.Errorf("%s\n%s", got, want)
	}
	if a, b := stat(t, dir+"/a/d"), stat(t, dir+"/root/in/x/d"); a.Mode != b.Mode || a.Mtim.Sec != b.Mtim.Sec {
		t.Errorf("%+v %+v", a, b)
	}
}

func stat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}
