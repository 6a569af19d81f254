package pando_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pandodb/pando"
)

type shelf struct {
	Place string `json:"place"`
}

type digest []byte

type scan struct {
	shelf
	*stamp
	Title   string            `json:"title"`
	Cover   []byte            `json:"cover"`
	Thumb   digest            `json:"thumb,omitempty"`
	Hash    [4]byte           `json:"hash"`
	Pages   [][]byte          `json:"pages"`
	Taken   time.Time         `json:"taken"`
	Number  uint16            `json:"number"`
	Weight  *float32          `json:"weight"`
	Tags    []string          `json:"tags"`
	Meta    map[string][]byte `json:"meta"`
	Level   level             `json:"level"`
	Big     json.Number       `json:"big"`
	Missing []byte            `json:"missing"`
	Skipped chan int          `json:"-"`
	private int
}

type stamp struct {
	By string `json:"by"`
}

type level int

func (l level) MarshalText() ([]byte, error) { return []byte(strings.Repeat("*", int(l))), nil }
func (l *level) UnmarshalText(b []byte) error {
	*l = level(len(b))
	return nil
}

const scans = `type Scan { place: String by: String title: String cover: Blob thumb: Blob hash: Blob pages: [Blob!] taken: DateTime
	number: Int weight: Float tags: [String!] meta: JSON level: String big: Int missing: Blob }`

// What a Go program writes as bytes are the bytes that it reads.
func TestStructsHoldBytes(t *testing.T) {
	t.Parallel()
	db := documented(t)
	if _, err := db.AddSchema(t.Context(), scans); err != nil {
		t.Fatal(err)
	}
	weight := float32(1.5)
	in := scan{
		shelf: shelf{"attic"}, stamp: &stamp{"Ada"}, Title: "Map", Cover: []byte{0, 255}, Hash: [4]byte{1, 2, 3, 4}, Pages: [][]byte{{1}, {}, {2, 3}},
		Taken: time.Date(2024, 2, 29, 12, 0, 0, 5, time.UTC), Number: 7, Weight: &weight, Tags: []string{"a"},
		Meta: map[string][]byte{"x": {171}}, Level: 3, Big: "9007199254740993", Skipped: make(chan int), private: 1,
	}
	var got pando.Document
	err := db.Update(t.Context(), func(tx *pando.Tx) error {
		c, err := tx.Collection("Scan")
		if err != nil {
			return err
		}
		got, err = c.Create(&in)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const want = `"big":9007199254740993,"by":"Ada","cover":"00ff","hash":"01020304","level":"***","meta":{"x":"ab"},"number":7,` +
		`"pages":["01","","0203"],"place":"attic","tags":["a"],"taken":"2024-02-29T12:00:00.000000005Z","title":"Map","weight":1.5}`
	if text := string(got.AppendJSON(nil)); !strings.HasSuffix(text, want) {
		t.Errorf("stored as\n%s, want\n%s", text, want)
	}
	var back struct {
		Title string
		Cover []byte   `json:"cover"`
		Pages []digest `json:"pages"`
		Hash  string   `json:"hash"`
	}
	if err := got.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if string(back.Cover) != "\x00\xff" || len(back.Pages) != 3 || string(back.Pages[2]) != "\x02\x03" || back.Hash != "01020304" || back.Title != "Map" {
		t.Errorf("read back as %+v", back)
	}
	var loose map[string]any
	if err := got.Decode(&loose); err != nil || loose["cover"] != "00ff" {
		t.Errorf("read into a map: %v, %v", loose, err)
	}
}

func TestGoValuesThatAreRefused(t *testing.T) {
	t.Parallel()
	db := documented(t)
	if _, err := db.AddSchema(t.Context(), scans); err != nil {
		t.Fatal(err)
	}
	type loop struct {
		Meta *loop `json:"meta"`
	}
	endless := &loop{}
	endless.Meta = endless
	type one struct {
		Title string `json:"title"`
	}
	type two struct {
		Other string `json:"title"`
	}
	for name, c := range map[string]struct {
		fields any
		says   string
	}{
		"a channel":        {struct{ title chan int }{}, ""},
		"a function":       {map[string]any{"title": func() {}}, "title: a value of type func() cannot be stored"},
		"a loop":           {endless, "nested more than"},
		"a number too big": {map[string]any{"number": uint64(1 << 63)}, "number: 9223372036854775808 does not fit 64 bits"},
		"keys of integers": {map[string]any{"meta": map[int]string{1: "x"}}, "meta: a map with keys of type int cannot be stored: use keys of type string"},
		"a name twice": {struct {
			one
			*two
		}{one{}, &two{}}, `embeds two fields of the name title`},
		"no document": {7, "a document is an object"},
		"infinity":    {map[string]any{"weight": 1 / zero}, "weight: +Inf"},
		"bytes elsewhere": {struct {
			Title []byte `json:"title"`
		}{[]byte("x")}, "title: expected String, got Blob"},
		"bytes as elements": {struct {
			Tags [][]byte `json:"tags"`
		}{[][]byte{{1}}}, "tags"},
	} {
		err := db.Update(t.Context(), func(tx *pando.Tx) error {
			docs, err := tx.Collection("Scan")
			if err != nil {
				return err
			}
			_, err = docs.Create(c.fields)
			return err
		})
		if c.says == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !errors.Is(err, pando.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want it refused with %q", name, err, c.says)
		}
	}
}

var zero float64
