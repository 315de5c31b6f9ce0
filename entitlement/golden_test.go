package entitlement

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-dev/penstock/cache"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// clock is the tests' present: soon after the samples' times.
var clock = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

var layouts = []Layout{LayoutDual, LayoutV3, LayoutV4}

func decoder(t testing.TB, o Options) *Decoder {
	t.Helper()
	d, err := NewDecoder(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func samples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(files) != 28 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	bodies := map[string][]byte{}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bodies[strings.TrimSuffix(filepath.Base(file), ".json")] = body
	}
	return bodies
}

// TestDecoder_samples holds what every sample of the contract becomes in each layout; the envelopes (26 to 28) are
// errors here and are unwrapped in package transforms.
func TestDecoder_samples(t *testing.T) {
	for name, body := range samples(t) {
		for _, layout := range layouts {
			t.Run(name+"/"+string(layout), func(t *testing.T) {
				d := decoder(t, Options{Layout: layout})
				payload, ev, err := d.Append(nil, Input{
					Body: body, Metadata: map[string]string{"sqs_sent_at": "1795172401000"}, Now: clock,
				})
				var got string
				switch {
				case err != nil:
					got = "error: " + err.Error() + "\n"
				case ev.Filtered != "":
					got = "filtered: " + ev.Filtered + "\n"
				default:
					got = string(payload)
				}
				if ev.Undated {
					t.Error("undated in spite of the metadata")
				}
				golden := filepath.Join("testdata/golden", fmt.Sprintf("%s.%s.ndjson", name, layout))
				if *update {
					if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if got != string(want) {
					t.Errorf("got:\n%swant:\n%s", got, want)
				}
				if ev.Filtered != "" || len(payload) == 0 {
					return
				}
				writes, err := cache.Parse(nil, payload)
				if err != nil || len(writes) != ev.Writes {
					t.Fatalf("%d writes, said %d: %v", len(writes), ev.Writes, err)
				}
				for _, w := range writes {
					if !w.Delete && !json.Valid(w.Value) {
						t.Errorf("%s: value is not JSON: %s", w.Key, w.Value)
					}
				}
			})
		}
	}
}

// TestDecoder_compactBodiesMakeTheSameWrites: blanks in a body leave no trace in what is written.
func TestDecoder_compactBodiesMakeTheSameWrites(t *testing.T) {
	for name, body := range samples(t) {
		var v any
		dec := json.NewDecoder(strings.NewReader(string(body)))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
		compact, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for _, layout := range layouts {
			d := decoder(t, Options{Layout: layout})
			want, _, errA := d.Append(nil, Input{Body: body, Now: clock})
			got, _, errB := d.Append(nil, Input{Body: compact, Now: clock})
			if (errA == nil) != (errB == nil) {
				t.Errorf("%s: %v, compact: %v", name, errA, errB)
			}
			// json.Marshal sorts the members of what is copied verbatim too, and no sample has such an object with
			// several members out of order but the reset configuration, whose __typename sorts first.
			if string(got) != string(want) {
				t.Errorf("%s, %s:\n%s\n%s", name, layout, got, want)
			}
		}
	}
}
