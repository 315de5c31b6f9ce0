package expression

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustCompile(t *testing.T, source string) *Expression {
	t.Helper()
	x, err := Compile(source)
	if err != nil {
		t.Fatalf("Compile(%q): %v", source, err)
	}
	return x
}

func TestExpression_matches(t *testing.T) {
	input := func() any {
		return Message(map[string]string{"source": "unit", "n": "1"},
			[]byte(`{"type":"ENTITLEMENTS_UPDATED","customer":{"id":"c1"},"items":[{"n":1},{"n":2}],"big":123456789012345678901234567890}`))
	}
	for source, want := range map[string]bool{
		`.metadata.source == "unit"`:                      true,
		`.metadata.source == "other"`:                     false,
		`.payload.type | startswith("ENTITLEMENTS")`:      true,
		`.payload.customer.id | test("^c[0-9]$")`:         true,
		`.payload.items[] | .n == 2`:                      true,
		`.payload.items[] | .n == 3`:                      false,
		`.payload.missing`:                                false,
		`.payload.missing.deeper`:                         false,
		`.payload.big == 123456789012345678901234567890`:  true,
		`.payload.big == 123456789012345678901234567891`:  false,
		`select(.metadata.n == "1")`:                      true,
		`select(.metadata.n == "2")`:                      false,
		`empty`:                                           false,
		`false, null`:                                     false,
		`false, 0`:                                        true,
		`halt`:                                            false,
		`env | length > 0`:                                false,
		`$ENV.PATH`:                                       false,
		`try error("x") catch . == "x"`:                   true,
		"# which\n.metadata.source == \"unit\" # it is\n": true,
	} {
		got, err := mustCompile(t, source).Matches(t.Context(), input())
		if err != nil || got != want {
			t.Errorf("%s: got %t, %v; want %t", source, got, err, want)
		}
	}
}

func TestExpression_bigWholeNumbersKeepTheirValue(t *testing.T) {
	for source, want := range map[string]string{
		`.payload`:                      `{"a":9007199254740993,"b":18446744073709551616,"c":-9223372036854775809,"d":0.5}`,
		`.payload.a + 1`:                `9007199254740994`,
		`.payload.b`:                    `18446744073709551616`,
		`.payload | {b, e: "text"}`:     `{"b":18446744073709551616,"e":"text"}`,
		`.payload.a > 9007199254740992`: `true`,
	} {
		values, err := mustCompile(t, source).Values(t.Context(),
			Message(nil, []byte(`{"a":9007199254740993,"b":18446744073709551616,"c":-9223372036854775809,"d":0.5}`)))
		if err != nil || len(values) != 1 {
			t.Errorf("%s: %v, %v", source, values, err)
			continue
		}
		if got, err := Encode(values[0]); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v; want %s", source, got, err, want)
		}
	}
}

func TestExpression_aPayloadThatIsNoJSONIsText(t *testing.T) {
	for payload, want := range map[string]string{
		"plain words":   `"plain words"`,
		`{"a":1`:        `"{\"a\":1"`,
		`1 2`:           `"1 2"`,
		"":              `""`,
		"bad \xff byte": `"bad ` + "\ufffd" + ` byte"`,
		` "text" `:      `"text"`,
		`null`:          `null`,
	} {
		values, err := mustCompile(t, ".payload").Values(t.Context(), Message(nil, []byte(payload)))
		if err != nil {
			t.Errorf("%q: %v", payload, err)
			continue
		}
		if got, _ := Encode(values[0]); string(got) != want {
			t.Errorf("%q: got %s, want %s", payload, got, want)
		}
	}
}

func TestExpression_errorsSayWhere(t *testing.T) {
	for source, want := range map[string]string{
		``:                             `line 1, column 1: the expression is empty`,
		`.payload.type = = "x"`:        `line 1, column 17: unexpected token "="`,
		`.payload |`:                   `line 1, column 11: the expression ends too early`,
		".metadata.a == 1 and\n  ) .b": `line 2, column 3: unexpected token ")"`,
		`.a == "ü" and ]`:              `line 1, column 15: unexpected token "]"`,
		`.payload.size | size`:         `line 1, column 17: function not defined: size/0`,
		`.payload == $x`:               `line 1, column 13: variable not defined: $x`,
		`.a == "open`:                  `line 1, column 12: unterminated string literal`,
		".a == \"\xff\"":               `line 1, column 8: the expression is not valid UTF-8`,
		`import "x" as x; .`:           `line 1, column 8: cannot load module: "x"`,
	} {
		_, err := Compile(source)
		if err == nil || err.Error() != want {
			t.Errorf("%q:\n got %v\nwant %s", source, err, want)
		}
		var place *Error
		if !errors.As(err, &place) {
			t.Errorf("%q: the error is a %T", source, err)
		}
	}
}

func TestExpression_whatItRaisesIsAnError(t *testing.T) {
	for source, want := range map[string]string{
		`.payload.a`:          `expected an object but got: string ("text")`,
		`error("no")`:         `error: no`,
		`halt_error`:          `halt error`,
		`.payload | tonumber`: `text`,
	} {
		_, err := mustCompile(t, source).Matches(t.Context(), Message(nil, []byte("text")))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", source, err, want)
		}
	}
}

// The count of steps rests on how the interpreter looks at its context: this test fails when that changes.
func TestExpression_anEndlessOneEnds(t *testing.T) {
	for _, source := range []string{`def f: f; f`, `[range(1; infinite)] | length`, `last(repeat(1))`, `until(false; .)`} {
		began := time.Now()
		_, err := mustCompile(t, source).Matches(t.Context(), nil)
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", source, err)
		}
		if took := time.Since(began); took > 2*MaxTime {
			t.Errorf("%s took %s", source, took)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := mustCompile(t, `def f: f; f`).Matches(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if ok, err := mustCompile(t, `[range(100000)] | length == 100000`).Matches(t.Context(), nil); !ok || err != nil {
		t.Errorf("what is large but not endless: %t, %v", ok, err)
	}
}

func TestExpression_isSafeForConcurrentUse(t *testing.T) {
	x := mustCompile(t, `.payload.n * 2`)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for range 200 {
				values, err := x.Values(t.Context(), Message(nil, fmt.Appendf(nil, `{"n":%d}`, n)))
				if err != nil || values[0] != 2*n {
					t.Errorf("%d: %v, %v", n, values, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkMatches(b *testing.B) {
	x, _ := Compile(`.metadata.source == "unit" and .payload.customer.id == "c1"`)
	payload := []byte(`{"type":"ENTITLEMENTS_UPDATED","customer":{"id":"c1"},"items":[{"n":1},{"n":2}]}`)
	b.ReportAllocs()
	for b.Loop() {
		if ok, _ := x.Matches(context.Background(), Message(map[string]string{"source": "unit"}, payload)); !ok {
			b.Fatal("no match")
		}
	}
}
