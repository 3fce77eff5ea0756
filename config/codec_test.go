package config

import (
	"reflect"
	"testing"
)

func TestRecordsComeBack(t *testing.T) {
	at := Origin{File: "/etc/containers/containers.conf", Line: 3}
	r := &Record{
		Place: Place{Usr: "/usr/share", Etc: "/etc", User: "/home/u/.config", Override: "/o"},
		Marks: []Mark{{Path: "/etc/containers", MTime: 1, Size: 2, Inode: 3}, {Path: "/gone"}},
		Config: Config{Settings: []Setting{
			{Key: "containers.env", Values: []string{"A=1\nb", ""}, From: []Origin{at, at}},
			{Key: "containers.volumes", From: []Origin{at}},
		}},
	}
	data := string(r.encode())
	got, ok := decode(data)
	if !ok || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, want %+v", got, r)
	}
	for n := range len(data) - 1 {
		if got, ok := decode(data[:n]); ok && len(got.Config.Settings) > 1 {
			t.Errorf("%d bytes of %d are taken for a record", n, len(data))
		}
	}
	r.Config.Settings = append(r.Config.Settings, Setting{Key: "registries.short-name-mode", Values: []string{"x"}, From: []Origin{at}})
	if got, _ := decode(string(r.encode())); got.Config.Find("registries.short-name-mode") != nil {
		t.Error("moss reads what only the image helper needs")
	}
}
