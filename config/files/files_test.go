package files

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"moss/config"
)

// lay writes files below a new directory and returns the place that they make.
func lay(t *testing.T, texts map[string]string) config.Place {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return config.Place{Usr: filepath.Join(dir, "usr"), Etc: filepath.Join(dir, "etc"), User: filepath.Join(dir, "user")}
}

func TestLaterFilesWin(t *testing.T) {
	p := lay(t, map[string]string{
		"usr/containers/containers.conf":                     "[containers]\nshm_size = \"1m\"\nenv = [\"A=1\"]\ntz = \"usr\"\n",
		"etc/containers/containers.conf":                     "[containers]\nshm_size = \"2m\"\nenv = [\n  \"B=2\",\n  {append=true},\n]\n",
		"etc/containers/containers.conf.d/10.conf":           "containers.umask = \"0027\"\n",
		"etc/containers/containers.conf.d/ignored":           "not TOML",
		"etc/containers/containers.rootless.conf.d/a.conf":   "[containers]\ninit = true\n",
		"etc/containers/containers.rootless.conf.d/7/b.conf": "[containers]\ninit = false\n",
		"etc/containers/containers.rootless.conf.d/8/b.conf": "[containers]\npidns = \"host\"\n",
		"user/containers/containers.conf":                    "[containers]\nenv = [\"C=3\"]\n[engine.runtimes]\nmine = [\"/bin/mine\"]\n",
		"user/containers/containers.conf.d/z.conf":           "[engine]\nstop_timeout = 3\n",
		"user/moss/moss.conf":                                "no_new_privileges = true\n[containers]\ntz = \"moss\"\n",
		"user/containers/registries.conf":                    "unqualified-search-registries = [\"a.example\"]\n[[registry]]\nlocation = \"b.example\"\nprefix = \"c.example\"\n[[registry.mirror]]\nlocation = \"d.example\"\ninsecure = true\n[aliases]\n\"x\" = \"y.example/x\"\n",
		"etc/containers/registries.conf":                     "unqualified-search-registries = [\"never.example\"]\n",
		"usr/containers/storage.conf":                        "[storage]\ngraphroot = \"/never\"\n",
		"etc/containers/storage.conf":                        "[storage]\nrootless_storage_path = \"$HOME/s\"\n[storage.options]\nadditionalimagestores = [\"/x\"]\n",
	})
	r, err := Read(p, 7)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(p.Usr)
	for key, want := range map[string]string{
		"containers.shm_size":                               "2m etc/containers/containers.conf:2",
		"containers.env":                                    "A=1 B=2 C=3 usr/containers/containers.conf:3 etc/containers/containers.conf:4 user/containers/containers.conf:2",
		"containers.umask":                                  "0027 etc/containers/containers.conf.d/10.conf:1",
		"containers.init":                                   "false etc/containers/containers.rootless.conf.d/7/b.conf:2",
		"containers.pidns":                                  "",
		"containers.tz":                                     "moss user/moss/moss.conf:3",
		"engine.runtimes.mine":                              "/bin/mine user/containers/containers.conf:4",
		"engine.stop_timeout":                               "3 user/containers/containers.conf.d/z.conf:2",
		"moss.no_new_privileges":                            "true user/moss/moss.conf:1",
		"registries.unqualified-search-registries":          "a.example user/containers/registries.conf:1",
		"registries.registry[c.example].location":           "b.example user/containers/registries.conf:3",
		"registries.registry[c.example].mirror[0].insecure": "true user/containers/registries.conf:7",
		"registries.aliases.x":                              "y.example/x user/containers/registries.conf:9",
		"storage.graphroot":                                 "",
		"storage.rootless_storage_path":                     "$HOME/s etc/containers/storage.conf:2",
		"storage.options.additionalimagestores":             "/x etc/containers/storage.conf:4",
	} {
		got := ""
		if s := r.Config.Find(key); s != nil {
			words := slices.Clone(s.Values)
			for _, o := range s.From {
				words = append(words, strings.TrimPrefix(o.String(), dir+"/"))
			}
			got = strings.Join(words, " ")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if len(r.Config.Warnings) != 0 {
		t.Errorf("warnings: %v", r.Config.Warnings)
	}
}

func TestVariablesNameFiles(t *testing.T) {
	p := lay(t, map[string]string{
		"user/containers/containers.conf": "[containers]\ntz = \"user\"\ninit = true\n",
		"one":                             "[containers]\ntz = \"one\"\numask = \"0\"\n", "two": "[containers]\numask = \"1\"\n",
	})
	dir := filepath.Dir(p.Usr)
	p.Conf, p.Override, p.Storage = filepath.Join(dir, "one"), filepath.Join(dir, "two"), os.DevNull
	r, err := Read(p, 7)
	if err != nil {
		t.Fatal(err)
	}
	c := &r.Config
	if c.String("containers.tz") != "one" || c.String("containers.umask") != "1" || c.Find("containers.init") != nil {
		t.Errorf("%+v", c.Settings)
	}
	p.Override = filepath.Join(dir, "three")
	if _, err := Read(p, 7); err == nil || !strings.Contains(err.Error(), "three") || !strings.Contains(err.Error(), "CONTAINERS_CONF_OVERRIDE") {
		t.Errorf("a file that is named and not there: %v", err)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"[containers]\nshm_size = \n":               "containers.conf:2: ",
		"[containers]\ninit = \"yes\"\n":            "containers.conf:2: containers.init: it is \"yes\": want true or false",
		"[containers]\n\nenv = \"A=1\"\n":           "containers.conf:3: containers.env: want a list",
		"[containers]\nenv = [1]\n":                 "containers.conf:2: containers.env: want a list of strings",
		"[containers]\nshm_size = [\"1\"]\n":        "containers.conf:2: containers.shm_size: it is a list",
		"[containers]\npids_limit = 1.5\n":          "containers.conf:2: containers.pids_limit: it is \"1.5\": want a whole number",
		"[containers]\nshm_size = 1\n":              "containers.conf:2: containers.shm_size: it is 1: want a string",
		"[containers]\ntz=\"a\"\ntz=\"b\"\n":        "containers.conf:3: ",
		"[containers]\ntzz=\"a\"\n":                 "warning :2: moss does not know the key containers.tzz",
		"[engine]\nconmon_path=[\"a\"]\n":           "warning :2: engine.conmon_path has no effect: moss has a monitor of its own",
		"[engine.service_destinations.x]\nuri=\"\"": "warning :2: engine.service_destinations.x.uri has no effect",
	} {
		p := lay(t, map[string]string{"user/containers/containers.conf": text})
		got := ""
		if r, err := Read(p, 7); err != nil {
			got = err.Error()
		} else if len(r.Config.Warnings) == 1 {
			w := r.Config.Warnings[0]
			got = "warning " + strings.TrimPrefix(w.Origin.String(), filepath.Join(p.User, "containers/containers.conf")) + ": " + w.Text
		}
		if !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestChangesAreSeen changes, adds and removes files below a record.
func TestChangesAreSeen(t *testing.T) {
	p := lay(t, map[string]string{"user/containers/containers.conf": "containers.tz = \"a\"\n", "etc/containers/x": ""})
	run, reads := t.TempDir(), 0
	load := func() string {
		t.Helper()
		c, err := config.Load(p, run, func() (*config.Record, error) {
			reads++
			r, err := Read(p, 7)
			if err != nil {
				return nil, err
			}
			return r, r.Write(run)
		})
		if err != nil {
			t.Fatal(err)
		}
		return c.String("containers.tz")
	}
	old := time.Now().Add(-time.Minute)
	age := func(path string) { // as if it had been there for a while
		old = old.Add(time.Second)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	user := filepath.Join(p.User, "containers")
	all := []string{user, filepath.Join(user, "containers.conf"), filepath.Join(p.Etc, "containers")}
	for _, path := range all {
		age(path)
	}
	expect := func(want string, wantReads int) {
		t.Helper()
		if got := load(); got != want || reads != wantReads {
			t.Errorf("%q after %d reads, want %q after %d", got, reads, want, wantReads)
		}
	}
	expect("a", 1)
	expect("a", 1)
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		age(path)
		age(filepath.Dir(path))
		age(user)
	}
	write(all[1], "containers.tz = \"b\"\n")
	expect("b", 2)
	expect("b", 2)
	write(filepath.Join(user, "containers.conf.d/x.conf"), "containers.tz = \"c\"\n")
	expect("c", 3)
	expect("c", 3)
	write(filepath.Join(user, "containers.conf.d/y.conf"), "containers.tz = \"d\"\n")
	expect("d", 4)
	if err := os.RemoveAll(filepath.Join(user, "containers.conf.d")); err != nil {
		t.Fatal(err)
	}
	age(user)
	expect("b", 5)
	if err := os.RemoveAll(filepath.Dir(p.User)); err != nil {
		t.Fatal(err)
	}
	expect("", 5)
}
