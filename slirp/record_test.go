package slirp

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestDefault has many first users: all get the same network.
func TestDefault(t *testing.T) {
	d := Dirs{Networks: filepath.Join(t.TempDir(), "networks")}
	var users sync.WaitGroup
	ids := make(chan string, 16)
	for range cap(ids) {
		users.Go(func() {
			n, err := Default(d)
			if err != nil {
				t.Error(err)
				return
			}
			ids <- n.ID
		})
	}
	users.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("two networks: %s and %s", first, id)
		}
	}
	n, err := Load(d, DefaultName)
	if err != nil {
		t.Fatal(err)
	}
	if v6 := n.Subnets[1].Prefix; !v6.Addr().IsPrivate() || v6.Bits() != 64 || v6 != v6.Masked() {
		t.Errorf("%s is no unique local range", v6)
	}
	entries, err := os.ReadDir(d.Networks)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	all, err := List(d)
	if err != nil || len(all) != 1 || all[0].ID != first {
		t.Errorf("list: %v, %v", all, err)
	}
}

func TestLoadMissing(t *testing.T) {
	d := Dirs{Networks: t.TempDir()}
	_, err := Load(d, "x")
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != `cannot load network "x": no such network` {
		t.Error(err)
	}
	for _, name := range []string{"", "../x", ".x"} {
		if err := Save(d, &Network{Name: name}); err == nil {
			t.Errorf("%q is saved", name)
		}
	}
}

func TestFreeRange(t *testing.T) {
	routes := filepath.Join(t.TempDir(), "route")
	text := "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"tun0\t0000590A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n" + // 10.89.0.0/16
		"eth0\t000A5A0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n" // 10.90.10.0/24
	if err := os.WriteFile(routes, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := hostRoutes(routes)
	if got := freeRange(taken).String(); got != "10.91.0.0/16" {
		t.Errorf("got %s beside %v", got, taken)
	}
	if got := freeRange([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}).String(); got != "172.31.0.0/16" {
		t.Errorf("got %s beside 10.0.0.0/8", got)
	}
}
