package redis

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/cache"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// direct calls the script without cache.Parse in between, which refuses what is not JSON.
func direct(t testing.TB, w *writer, writes ...cache.Write) string {
	t.Helper()
	c := &call{}
	for i := range writes {
		c.request.add("p", &writes[i])
	}
	w.exec(t.Context(), []*call{c})
	if c.err != nil {
		t.Fatal(c.err)
	}
	for range c.got.errs {
		t.Error(c.got.nextError())
	}
	return c.got.letters
}

func directWriter(t testing.TB, addr string) *writer {
	t.Helper()
	w := newWriter(testConfig(addr), pipeline.Env{}, writeScript)
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func TestScript_isBinarySafe(t *testing.T) {
	t.Parallel()
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			addr := serve(t)
			w, client := directWriter(t, addr), testClient(t, addr)
			rng := rand.New(rand.NewPCG(1, 1))
			noise := func(n int) []byte {
				b := make([]byte, n)
				for i := range b {
					b[i] = byte(rng.IntN(256))
				}
				return b
			}
			keys := []string{"\x00", "a\x00b", "a\x00c", "\r\n", "%d", "%", "'", "\xff\xfe", "客户:müller/😀", string(noise(1000))}
			for _, key := range keys {
				for _, value := range [][]byte{{}, {0}, []byte("a\x00b"), []byte("a\x00c"), []byte("\r\n$3\r\nx"), noise(1 << 20)} {
					client.FlushDB(t.Context())
					writes := []cache.Write{
						{Key: key, Version: 1, AsOf: 1, Value: value}, {Key: key + "u", Version: 1, Value: value}, {Key: key + "n", Value: value},
						{Key: key + "g", Version: 1, Value: value, IfAnyExists: []string{key}},
						{Key: key + "never", Version: 1, Value: value, IfAnyExists: []string{key + "absent"}},
					}
					if got := direct(t, w, writes...); got != "ssssg" {
						t.Errorf("key %q, value of %d bytes: got %s, want ssssg", key, len(value), got)
					}
					for _, write := range writes[:4] {
						got, err := client.Get(t.Context(), "p:"+write.Key).Bytes()
						if err != nil || !bytes.Equal(got, value) {
							t.Errorf("key %q: got %.20q, %v, want %.20q", write.Key, got, err, value)
						}
					}
					if got := direct(t, w, writes[:2]...); got != "rr" {
						t.Errorf("key %q, value of %d bytes, again: got %s, want rr", key, len(value), got)
					}
				}
			}
		})
	}
}

func TestScript_tiesGoByTheBytes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1<<20)
	ordered := []string{"", "\x00", "\x00\x00", "A", "A\x00", "B", "a", "a\x00a", "ab", "b", long, long + "\x00", long + "a", "x\xff", "\x7f", "\x80", "ä", "\xff", "\xff\x00"}
	for name, serve := range kindsOfServer {
		t.Run(name, func(t *testing.T) {
			addr := serve(t)
			w, client := directWriter(t, addr), testClient(t, addr)
			for i, one := range ordered {
				for j, two := range ordered {
					client.FlushDB(t.Context())
					for _, asOf := range []int64{0, 5} {
						a, b := cache.Write{Key: "k", Version: 5, AsOf: asOf, Value: []byte(one)}, cache.Write{Key: "k", Version: 5, AsOf: asOf, Value: []byte(two)}
						if asOf != 0 {
							a.Key, b.Key = "m", "m"
						}
						want := map[int]string{-1: "ss", 0: "sr", 1: "so"}[bytes.Compare(a.Value, b.Value)]
						if got := direct(t, w, a, b); got != want {
							t.Errorf("%.10q (%d), then %.10q (%d): got %s, want %s", one, i, two, j, got, want)
						}
					}
				}
			}
		})
	}
}

// FuzzScript looks for arguments that upset the script, or that it takes for something else.
func FuzzScript(f *testing.F) {
	addr := testserver.Redis(f)
	w, client := directWriter(f, addr), testClient(f, addr)
	f.Add("c_1", []byte("{}"), int64(1), int64(2), "1", "2 1 v")
	f.Add("\x00", []byte{0}, int64(1<<63-1), int64(0), "-1x", "")
	f.Add("", []byte("a"), int64(0), int64(0), " 0009", "1 2 d")
	f.Fuzz(func(t *testing.T, key string, value []byte, version, asOf int64, sibling, clocks string) {
		if version < 0 || asOf < 0 || version == 0 && asOf != 0 || len(key) > maxKey {
			t.Skip()
		}
		ctx := context.Background()
		client.FlushDB(ctx)
		client.Set(ctx, "p:"+key+"#timestamp", sibling, 0)
		client.Set(ctx, "p:penstock:"+key, clocks, 0)
		write := cache.Write{Key: key, Version: version, AsOf: asOf, Value: value}
		switch got := direct(t, w, write); got {
		case "s", "r":
			stored, err := client.Get(ctx, "p:"+key).Bytes()
			if err != nil || !bytes.Equal(stored, value) {
				t.Errorf("stored %q, %v, want %q", stored, err, value)
			}
		case "o":
			if client.Exists(ctx, "p:"+key).Val() != 0 && key != "" {
				t.Error("an older write was stored")
			}
		default:
			t.Errorf("answer %q", got)
		}
	})
}
