package entitlement

import (
	"errors"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/penstock-dev/penstock/internal/reason"
)

// TestMembers_areThoseThatTheParserKnows: reports tell the place of a fault by them.
func TestMembers_areThoseThatTheParserKnows(t *testing.T) {
	inSource := map[string]bool{}
	literal := func(e ast.Expr) {
		if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
			name, err := strconv.Unquote(l.Value)
			if err != nil {
				t.Fatal(err)
			}
			if name != "" {
				inSource[name] = true
			}
		}
	}
	for _, file := range []string{"parse.go", "decode.go", "refreshable.go"} {
		parsed, err := goparser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SwitchStmt: // switch string(name)
				call, ok := n.Tag.(*ast.CallExpr)
				if !ok || len(call.Args) != 1 {
					break
				}
				if arg, ok := call.Args[0].(*ast.Ident); !ok || arg.Name != "name" {
					break
				}
				for _, c := range n.Body.List {
					for _, e := range c.(*ast.CaseClause).List {
						literal(e)
					}
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "errorAt" {
					literal(n.Args[0])
				}
			}
			return true
		})
	}
	for name := range inSource {
		if members[name].String() != name {
			t.Errorf("%q isn't among the members", name)
		}
	}
	for name := range members {
		if !inSource[name] {
			t.Errorf("the parser doesn't know %q", name)
		}
	}
	if len(inSource) < 40 {
		t.Errorf("only %d members found", len(inSource))
	}
}

func TestError_itsReasonHoldsNothingOfTheEvent(t *testing.T) {
	for body, want := range map[string]string{
		`{"type":"CANARY"}`:                                                   `at type; unknown event type …`,
		`{"customerId":"x"} CANARY`:                                           `text after the end of the event`,
		`{"CANARY":{"id":CANARY}}`:                                            `not JSON: …`,
		`{"customer":{"id":"a","CANARY":[1,}}`:                                `not JSON: …`,
		`{"customer":{"id":"CANARY"},"customerId":"CANARY2"}`:                 `at customerId; another id than elsewhere in the event: …, …`,
		`{"type":"usage.updated","customerId":"CANARY","featureId":"CANARY"}`: `at currentUsage; missing`,
		`{"entitlements":[{},{"feature":{"refId":7}}]}`:                       `at entitlements[].feature.refId; want a string, got a number`,
		`{"entitlements":[{"enumValues":["a",7]}]}`:                           `at entitlements[].enumValues[]; want a string, got a number`,
		`{"timestamp":"CANARY"}`:                                              `at timestamp; want a time such as 2006-01-02T15:04:05.000Z, got …`,
		`{"timestamp":1795256130}`:                                            `at timestamp; time is in 1970: it looks like seconds, and must be milliseconds`,
		`{"entitlementReference":{"type":"CANARY"}}`:                          `at entitlementReference.type; want FEATURE or CREDIT, got …`,
	} {
		_, _, err := decoder(t, Options{}).Append(nil, Input{Body: []byte(body), Now: clock})
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s: %v", body, err)
			continue
		}
		var reasons []string
		for err := e.Unwrap(); err != nil; {
			r, ok := err.(*reason.Error) //nolint:errorlint // each is told by itself
			if !ok {
				t.Fatalf("%s: %T", body, err)
			}
			reasons = append(reasons, r.Reason())
			err = nil
			if inner := r.Unwrap(); len(inner) == 1 {
				err = inner[0]
			}
		}
		if got := strings.Join(reasons, "; "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", body, got, want)
		}
	}
	if err := (&Error{Path: "customerId", What: "somebody else's"}); errors.Unwrap(err) != nil {
		t.Error("an error that wasn't made here has a reason")
	}
}
