package yamlfile

import (
	"fmt"
	"math/big"
	"reflect"
	"strings"
)

// Range is what the tags range and step of a field say: the values that a number, a duration or a size may have.
type Range struct {
	// Parts are the intervals, one of which a value lies in.
	Parts []Interval
	// Step, when it is not nil, is what a value is a multiple of.
	Step     *big.Rat
	stepText string
}

// Interval is a part of a range: from Low to High, nil where it has no end. The units are those of the type: a
// duration's are nanoseconds, a size's bytes.
type Interval struct {
	Low, High *big.Rat
	// Above and Below tell that Low and High themselves are left out.
	Above, Below      bool
	lowText, highText string
}

// parseRange reads the tags range, such as "1..10", "1..", "..100", ">0" and "<0,1ms..1h", and step, such as "1s".
func (l *Language) parseRange(f *Field, text, step string) (*Range, error) {
	r := &Range{stepText: step}
	number := func(text string) (*big.Rat, error) {
		v := reflect.New(deref(f.Type)).Elem()
		if err := l.literal(text, v); err != nil {
			return nil, err
		}
		n := number(v)
		if n == nil {
			return nil, fmt.Errorf("%s has no range", f.Type)
		}
		return n, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		var i Interval
		switch {
		case part == "":
			continue
		case part[0] == '>':
			i.lowText, i.Above = part[1:], true
		case part[0] == '<':
			i.highText, i.Below = part[1:], true
		default:
			low, high, between := strings.Cut(part, "..")
			if !between {
				high = low
			}
			i.lowText, i.highText = low, high
		}
		var err error
		if i.lowText != "" {
			if i.Low, err = number(i.lowText); err != nil {
				return nil, err
			}
		}
		if i.highText != "" {
			if i.High, err = number(i.highText); err != nil {
				return nil, err
			}
		}
		r.Parts = append(r.Parts, i)
	}
	if step != "" {
		var err error
		if r.Step, err = number(step); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// number is the value of a number, nil for everything else and for what is no number (NaN, infinities).
func number(v reflect.Value) *big.Rat {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	switch {
	case v.CanInt():
		return new(big.Rat).SetInt64(v.Int())
	case v.CanUint():
		return new(big.Rat).SetUint64(v.Uint())
	case v.CanFloat():
		return new(big.Rat).SetFloat64(v.Float())
	}
	return nil
}

// Has reports whether a value is in the range.
func (r *Range) Has(n *big.Rat) bool {
	in := len(r.Parts) == 0
	for _, i := range r.Parts {
		in = in || i.has(n)
	}
	return in && (r.Step == nil || new(big.Rat).Quo(n, r.Step).IsInt())
}

func (i Interval) has(n *big.Rat) bool {
	if i.Low != nil {
		if c := n.Cmp(i.Low); c < 0 || c == 0 && i.Above {
			return false
		}
	}
	if i.High != nil {
		if c := n.Cmp(i.High); c > 0 || c == 0 && i.Below {
			return false
		}
	}
	return true
}

// String is the range in words, such as "1 to 10" or "at least 1".
func (r *Range) String() string {
	var parts []string
	for _, i := range r.Parts {
		parts = append(parts, i.String())
	}
	text := strings.Join(parts, ", or ")
	switch r.stepText {
	case "":
		return text
	case "1s":
		return text + " in whole seconds"
	}
	return text + " in steps of " + r.stepText
}

func (i Interval) String() string {
	zero := func(n *big.Rat) bool { return n != nil && n.Sign() == 0 }
	switch {
	case i.High == nil && i.Above:
		return "more than " + i.lowText
	case i.High == nil && zero(i.Low):
		return "not negative"
	case i.High == nil:
		return "at least " + i.lowText
	case i.Low == nil && i.Below && zero(i.High):
		return "negative"
	case i.Low == nil && i.Below:
		return "less than " + i.highText
	case i.Low == nil:
		return "at most " + i.highText
	case i.lowText == i.highText:
		return i.lowText
	}
	return i.lowText + " to " + i.highText
}

// complaint says how a value that is set breaks the field's range, or "".
func (f *Field) outOfRange(v reflect.Value) string {
	if f == nil || f.Range == nil {
		return ""
	}
	n := number(v)
	switch {
	case n == nil && v.CanFloat():
		return fmt.Sprintf("%s, got %v", f.must(), v)
	case n == nil || f.Range.Has(n):
		return ""
	}
	return fmt.Sprintf("%s, got %v%s", f.must(), deepest(v), f.note())
}

func (f *Field) must() string {
	if text := f.Range.String(); !strings.HasPrefix(text, "not ") {
		return "must be " + text
	}
	return "must not be negative"
}

func (f *Field) note() string {
	if f.Note == "" {
		return ""
	}
	return "; " + f.Note
}

func deepest(v reflect.Value) any {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v.Interface()
}

// breaksPattern says how a text breaks the field's pattern, or "". shown is how the text may be quoted; "" when it may
// not.
func (f *Field) breaksPattern(text, shown string) string {
	if f == nil || f.Pattern == nil || text == "" || f.Pattern.MatchString(text) {
		return ""
	}
	if shown == "" || f.Hidden || strings.Contains(text, "@") || strings.Contains(text, "://") { // there may be a password in it
		return "want " + f.Want + f.note()
	}
	return "want " + f.Want + ", got " + shown + f.note()
}
