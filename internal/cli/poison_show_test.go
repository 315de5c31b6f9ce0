package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPoisonShow_saysWhatWouldBecomeOfItToday(t *testing.T) {
	const event = `{"type":"entitlement.updated","customerId":"acme","featureId":"f","hasAccess":true,"timestamp":"2026-11-22T10:15:30Z"}`
	decode := "transforms: [{decode_entitlements: {}}]\nsink: {keep: {name: KEEP}}\n"
	for name, c := range map[string]struct{ yaml, payload, want string }{
		"written": {"", `{"n":1}`, "today it would be written:\n  {\"n\":1}\n"},
		"a byte": {decode, `{"type": 42}`, "today it would be poisoned again: transforms[0].decode_entitlements: type: want a string, got a number (byte 10)\n" +
			"  it stopped at byte 10 of what that was given:\n  {\"type\": 42}\n           ^\n"},
		"a member": {decode, strings.Replace(event, "entitlement.updated", "weather.changed", 1), "unknown event type \"weather.changed\"\n" +
			"  it stopped at byte 9 of what that was given:\n  {\"type\":\"weather.changed\",\"customerId\"…\n          ^\n"},
		"no JSON": {decode, "hello\u001b[31m", "today it would be poisoned again: transforms[0].decode_entitlements: want an object, got 'h' (byte 1)\n" +
			"  it stopped at byte 1 of what that was given:\n  hello\ufffd[31m\n  ^\n"},
		"no place":      {decode, `{"type":"ENTITLEMENTS_UPDATED","timestamp":"2026-11-22T10:15:30Z"}`, "decode_entitlements: entitlements: missing\n\n"},
		"in the middle": {decode, `{"type":"ENTITLEMENTS_UPDATED","customerId":"acme","entitlements":[{"feature":{"refId":[1]}}]}`, "^\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newPoisonBench(t, c.yaml)
			line, err := json.Marshal(map[string]any{"id": "m9", "payload": c.payload, "poison": map[string]any{"reason": "then"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(b.dir, "p-9.ndjson"), append(line, '\n'), 0o600); err != nil {
				t.Fatal(err)
			}
			code, out, errs := b.run("show", "m9")
			if code != 0 || !strings.Contains(out, c.want) {
				t.Errorf("code %d, %s\n%s\nwant\n%s", code, errs, out, c.want)
			}
			if b.wrote() != "" {
				t.Errorf("wrote %s", b.wrote())
			}
		})
	}
}

func TestPoisonShow_asJSON(t *testing.T) {
	b := newPoisonBench(t, "transforms: [{decode_entitlements: {}}]\nsink: {keep: {name: KEEP}}\n")
	_, out, _ := b.run("show", "m1", "--format", "json")
	if !strings.Contains(out, `"today":{"outcome":"poisoned","reason":"`) || !strings.Contains(out, `"recorded_at":"2026-11-22T10:15:30.250000000Z"`) {
		t.Errorf("got %s", out)
	}
}

// The caret stands where the path leads, whatever stands around it.
func TestMemberAt(t *testing.T) {
	text := ` { "a" : [ 1, {"b": "x]"} , [ 2 ] ], "": 7, "c.d": 1}`
	for path, want := range map[string]string{"a": "[ 1", "a[0]": "1,", "a[1]": `{"b"`, "a[1].b": `"x]"`, "a[2][0]": "2 ]", "a[3]": "", "b": "", "a.b": "", "": "", "a[1].b.c": ""} {
		at := memberAt([]byte(text), path)
		if (at < 0) != (want == "") || at >= 0 && !strings.HasPrefix(text[at:], want) {
			t.Errorf("%s: at %d, want %q", path, at, want)
		}
	}
	if at := memberAt([]byte("no JSON"), "a"); at != -1 {
		t.Errorf("of no JSON: %d", at)
	}
}
