package record

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

type kind string

type inner struct {
	A int `json:"a,omitempty"`
	B string
}

type Embedded struct {
	Deep   string
	Hidden int
}

type everything struct {
	Embedded
	Hidden  string // hides Embedded's
	Text    string `json:"text"`
	Kind    kind
	Yes     bool `json:",omitempty"`
	I8      int8
	I       int64 `json:"i,omitempty"`
	U16     uint16
	F       float64
	P       *inner
	Nil     *inner
	Empty   *inner `json:",omitempty"`
	List    []inner
	Strings []string `json:"strings"`
	None    []string
	Bytes   []byte
	Array   [3]int
	Map     map[string]string
	Types   map[kind]*inner
	Numbers map[int]bool
	At      time.Time
	Never   time.Time `json:",omitzero"`
	Wait    time.Duration
	Addr    netip.Addr
	Prefix  netip.Prefix
	Raw     json.RawMessage
	Any     any
	Skipped string `json:"-"`
}

func sample() everything {
	return everything{
		Embedded: Embedded{Deep: "deep", Hidden: 1}, Hidden: "h",
		Text: "a\"\\\n\t\r\x00\x1f\x7f<>&\u2028é日\U0001F600", Kind: "k", Yes: true, I8: -128, I: math.MaxInt64, U16: 65535, F: 1.5e-9,
		P: &inner{A: 1, B: "b"}, List: []inner{{}, {A: 2}}, Strings: []string{"", "x"}, Bytes: []byte{0, 255, 1}, Array: [3]int{1, 2, 3},
		Map: map[string]string{"b": "1", "a": "2"}, Types: map[kind]*inner{"t": nil, "s": {B: "q"}}, Numbers: map[int]bool{-1: true},
		At: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Wait: time.Minute,
		Addr: netip.MustParseAddr("fd00::1"), Prefix: netip.MustParsePrefix("10.0.0.0/8"),
		Raw: json.RawMessage(`{"x":[1,2]}`), Any: map[string]any{"n": 1.0, "l": []any{"a", nil, true}},
	}
}

// What is written is read by encoding/json as the same value, and the other way
// round; so is what neither of the two has written.
func TestSameAsEncodingJSON(t *testing.T) {
	for name, want := range map[string]everything{"full": sample(), "zero": {Raw: json.RawMessage("null")}} {
		ours, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var a, b, c, d everything
		for into, data := range map[*everything][]byte{&a: ours, &b: theirs} {
			if err := json.Unmarshal(data, into); err != nil {
				t.Fatalf("%s: %v: %s", name, err, data)
			}
		}
		for into, data := range map[*everything][]byte{&c: ours, &d: theirs} {
			if err := Decode(data, into); err != nil {
				t.Fatalf("%s: %v: %s", name, err, data)
			}
		}
		for _, got := range []everything{a, c, d} {
			if !reflect.DeepEqual(got, b) {
				t.Errorf("%s: %+v\nwant %+v", name, got, b)
			}
		}
		var x, y any
		json.Unmarshal(ours, &x)
		json.Unmarshal(theirs, &y)
		if !reflect.DeepEqual(x, y) {
			t.Errorf("%s: %s\nwant %s", name, ours, theirs)
		}
	}
}

// Decoding writes over what is there, as encoding/json does.
func TestDecodeInto(t *testing.T) {
	for _, data := range []string{
		`{"List":[{"a":9}],"Strings":[],"Map":{"c":"3"},"P":{"B":"new"},"Array":[7],"Nil":null,"I8":null,"TEXT":"case","unknown":{"a":[1,{"b":null}]}}`,
		`{"P":null,"Map":null,"List":null,"Any":[1e3,-0.5,"\ud83d\ude00\ud800 \u00e9\/"]}`,
		` { "Text" : "x" , "Yes" : false } `,
	} {
		got, want := sample(), sample()
		if err := Decode([]byte(data), &got); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if err := json.Unmarshal([]byte(data), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant %+v", data, got, want)
		}
	}
}

func TestRefused(t *testing.T) {
	for _, data := range []string{
		``, `{`, `{"I8":1`, `{"I8":128}`, `{"I8":1.5}`, `{"U16":-1}`, `{"Text":1}`, `{"Yes":"true"}`, `{"List":{}}`, `{"P":[]}`, `{"Map":{"a":1}}`,
		`{"Addr":"x"}`, `{"At":"yesterday"}`, `{"Bytes":"%"}`, `{} x`, `{"a" 1}`, `{"Text":"\x"}`, `{"Text":"` + "\n" + `"}`, `{"I8":01}`, `{"I8":-}`, `nul`,
		strings.Repeat(`{"unknown":`, 20000), `{"Numbers":{"x":true}}`, `{"F":1e}`, `{"Any":tru}`,
	} {
		var v everything
		if err := Decode([]byte(data), &v); err == nil {
			t.Errorf("%.40s was read as %+v", data, v)
		}
	}
	if err := Decode([]byte(`{}`), everything{}); err == nil {
		t.Error("decoded into what is not a pointer")
	}
	for _, v := range []any{math.NaN(), func() {}, map[inner]int{{}: 1}, struct{ C chan int }{make(chan int)}} {
		if data, err := Encode(v); err == nil {
			t.Errorf("%T became %s", v, data)
		}
	}
}

func FuzzDecode(f *testing.F) {
	full, _ := Encode(sample())
	for _, seed := range []string{string(full), `null`, `[1,2.5e+7,"\u0041"]`, `{"a":{"b":[]}}`, "\"\xff\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want any
		err := Decode(data, &got)
		if werr := json.Unmarshal(data, &want); (err == nil) != (werr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v; want %v, %v", data, got, err, want, werr)
		}
		var s everything
		if Decode(data, &s) == nil {
			if _, err := Encode(s); err != nil {
				t.Errorf("%q: %v", data, err)
			}
		}
	})
}

// A record is replaced as a whole, or not at all.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	if found, err := Read(path, new(inner)); found || err != nil {
		t.Errorf("a missing record: %v %v", found, err)
	}
	for _, sync := range []bool{false, true} {
		if err := Write(path, inner{A: 3, B: strings.Repeat("long", 5000)}, sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(path, func() {}, false); err == nil {
		t.Error("a function was written")
	}
	var got inner
	if found, err := Read(path, &got); !found || err != nil || got.A != 3 || len(got.B) != 20000 {
		t.Errorf("%v %v %+v", found, err, got)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for content, word := range map[string]string{"": "it is empty", "{": "it is damaged"} {
		os.WriteFile(path, []byte(content), 0o600)
		if found, err := Read(path, &got); !found || err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v %v", content, found, err)
		}
	}
	if err := Write(filepath.Join(path, "x"), 1, false); err == nil {
		t.Error("wrote below a file")
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}
