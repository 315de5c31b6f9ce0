package yamlfile

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock/internal/code"
	"github.com/penstock-dev/penstock/internal/plaintext"
	"github.com/penstock-dev/penstock/pipeline/internal/expand"
	"github.com/penstock-dev/penstock/pipeline/internal/suggest"
)

// scalarText is a scalar after its expansions.
type scalarText struct {
	expand.Result
	node *yaml.Node
}

// text resolves the expansions of a scalar. It returns false, after reporting them, when there were problems.
func (d *decoder) text(n *yaml.Node, path string) (scalarText, bool) {
	s := scalarText{Result: expand.Result{Text: n.Value}, node: n}
	if d.literal || d.verbatim {
		return s, true
	}
	s.Result = d.expander.Expand(n.Value)
	s.Whole = s.Whole && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0
	for _, name := range s.Trimmed {
		d.warnings = append(d.warnings, Problem{Place: placeOf(n), Path: path, Code: code.LineEndLeftOut, What: "the line end at the end of " + name + " is left out"})
	}
	for _, p := range s.Problems {
		d.report(cmp.Or(p.Code, code.ExpansionSyntax), placeOf(n), path, "%s", p.What)
		d.problems[len(d.problems)-1].Variable = p.Variable
	}
	return s, len(s.Problems) == 0
}

// expandAll reports the missing variables of a part that can't be decoded.
func (d *decoder) expandAll(n *yaml.Node, path string) {
	switch n.Kind {
	case yaml.ScalarNode:
		d.text(n, path)
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			d.expandAll(n.Content[i], Join(path, n.Content[i-1].Value))
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			d.expandAll(item, fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// shown is how a problem quotes the scalar: short, with the expansion it came from, and never what a file held.
func (s scalarText) shown() string {
	text := plaintext.Cut(s.Text)
	switch {
	case s.FromFile:
		return "what " + s.node.Value + " holds"
	case s.Count > 0:
		return fmt.Sprintf("%q (from %s)", text, s.node.Value)
	case s.plain():
		return text
	}
	return strconv.Quote(text)
}

// plain reports whether the scalar was written without quotes and without expansions, so that its tag tells its type.
func (s scalarText) plain() bool { return s.Count == 0 && s.node.ShortTag() != "!!str" }

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, f *Field) (present bool) {
	want := d.lang.TypeName(v.Type())
	if n.Kind != yaml.ScalarNode {
		d.report(code.WrongShape, d.placeAt(path, n), path, "want %s, got %s", article(want), describe(n))
		d.expandAll(n, path)
		return true
	}
	s, ok := d.text(n, path)
	if !ok {
		return true
	}
	if s.Text == "" || s.Count == 0 && n.ShortTag() == "!!null" {
		return false
	}
	if f == nil || !f.FreeText {
		if err := code.Mark(code.UnseenText, d.checkText(v, s)); err != nil {
			d.report(code.Of(err), placeOf(n), path, "%s", err.Error())
			return true
		}
	}
	if err := code.Mark(code.WrongType, d.set(v, s)); err != nil {
		d.report(code.Of(err), placeOf(n), path, "%s", err.Error())
		return true
	}
	if f != nil && len(f.Enum) > 0 && !slices.Contains(f.Enum, fmt.Sprint(v.Interface())) {
		hint := ""
		if near := suggest.Nearest(s.Text, f.Enum); near != "" {
			hint = " (did you mean " + near + "?)"
		}
		d.reportHint(code.NotInEnum, placeOf(n), path, fmt.Sprintf("want %s, got %s", oneOf(f.Enum), s.shown()), hint)
		return true
	}
	d.checkRules(s, v, path, f)
	return true
}

// checkRules reports a value out of the range of its field, or that breaks its pattern.
func (d *decoder) checkRules(s scalarText, v reflect.Value, path string, f *Field) {
	if f == nil {
		return
	}
	if what := f.outOfRange(v); what != "" {
		if s.FromFile {
			what = fmt.Sprintf("%s, not what %s holds", f.must(), s.node.Value)
		}
		d.reportRule(cmp.Or(f.Code, code.OutOfRange), placeOf(s.node), path, what)
		return
	}
	shown := s.shown()
	if d.lang.TypeName(v.Type()) == "secret" {
		shown = ""
	} else if s.Count == 0 {
		shown = strconv.Quote(plaintext.Cut(s.Text))
	}
	if what := f.breaksPattern(s.Text, shown); what != "" {
		d.reportRule(cmp.Or(f.Code, code.BadForm), placeOf(s.node), path, what)
	}
}

// checkText refuses texts with something in them that can't be seen.
func (d *decoder) checkText(v reflect.Value, s scalarText) error {
	t := v.Type()
	if d.literal || t == durationType || t.Kind() != reflect.String && !reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return nil
	}
	if word := strings.ToLower(s.Text); t.Kind() == reflect.String && s.Count == 0 && s.node.Style == 0 && slices.Contains(yaml11Booleans, word) {
		return code.Markf(code.UnquotedBoolean, "%s without quotes is a boolean to many readers of YAML: write %q if the text is meant", s.Text, s.Text)
	}
	err := plaintext.Check(s.Text)
	switch {
	case err == nil:
		return nil
	case s.FromFile:
		return fmt.Errorf("what %s holds %w", s.node.Value, err)
	case s.Count > 0:
		return fmt.Errorf("%w (from %s)", err, s.node.Value)
	case s.node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return fmt.Errorf("%w: write the text on the line of its key (| and > keep the line end, |- and >- leave it out)", err)
	}
	return err
}

// yaml11Booleans are the words that YAML 1.1 takes for booleans and YAML 1.2 for text.
var yaml11Booleans = []string{"yes", "no", "on", "off"}

// keepReread tells what a text with expansions was decoded into how to resolve them anew: files may hold something
// else by then.
func (d *decoder) keepReread(target any, s scalarText) {
	if s.Count == 0 || d.lang.Reread == nil {
		return
	}
	expander, text := d.expander, s.node.Value
	d.lang.Reread(target, func() (string, error) {
		now := expander.Expand(text)
		if len(now.Problems) > 0 {
			return "", errors.New(now.Problems[0].What)
		}
		return now.Text, plaintext.Check(now.Text)
	})
}

// set stores the scalar in v.
func (d *decoder) set(v reflect.Value, s scalarText) error {
	t := v.Type()
	if t == durationType {
		return setDuration(v, s)
	}
	if u, ok := textUnmarshaler(v); ok {
		c := code.NotParsed
		if d.lang.TypeName(t) == "size" {
			c = code.NotSize
		}
		err := code.Mark(c, u.UnmarshalText([]byte(s.Text)))
		switch {
		case err == nil:
			d.keepReread(u, s)
			return nil
		case s.FromFile:
			return code.Markf(c, "want %s, not what %s holds", article(d.lang.TypeName(t)), s.node.Value)
		case s.Count > 0:
			return fmt.Errorf("%w (from %s)", err, s.node.Value)
		}
		return err
	}
	wrong := func() error {
		c, hint := code.WrongType, ""
		if s.Count == 1 && !s.Whole && strings.HasPrefix(s.node.Value, "${") && strings.HasSuffix(s.node.Value, "}") && t.Kind() != reflect.String {
			c, hint = code.QuotedExpansion, ": a quoted expansion stays text, write it without quotes and on a line of its own"
		}
		if hint == "" && !s.FromFile {
			hint = numberHint(t, strings.TrimSpace(s.Text))
		}
		return code.Markf(c, "want %s, got %s%s", article(d.lang.TypeName(t)), s.shown(), hint)
	}
	trimmed := strings.TrimSpace(s.Text)
	switch t.Kind() {
	case reflect.String:
		v.SetString(s.Text)
		return nil
	case reflect.Bool:
		b, ok := asBool(s, trimmed)
		if !ok {
			return wrong()
		}
		v.SetBool(b)
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if !s.Whole && !s.plain() || !plaintext.IsDecimal(trimmed, false) {
			return wrong()
		}
		i, err := strconv.ParseInt(trimmed, 10, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return wrong()
		}
		if err != nil || v.OverflowInt(i) {
			return code.Markf(code.NumberSize, "want a whole number from %d to %d, got %s", -1<<(t.Bits()-1), 1<<(t.Bits()-1)-1, s.shown())
		}
		v.SetInt(i)
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if !s.Whole && !s.plain() || !plaintext.IsDecimal(trimmed, false) {
			return wrong()
		}
		u, err := strconv.ParseUint(trimmed, 10, 64)
		if err != nil || v.OverflowUint(u) {
			return code.Markf(code.NumberSize, "want a whole number from 0 to %d, got %s", uint64(1)<<t.Bits()-1, s.shown())
		}
		v.SetUint(u)
		return nil
	case reflect.Float32, reflect.Float64:
		if !s.Whole && !s.plain() || !plaintext.IsDecimal(trimmed, true) {
			return wrong()
		}
		x, err := strconv.ParseFloat(trimmed, 64)
		if err != nil || math.IsNaN(x) || math.IsInf(x, 0) || v.OverflowFloat(x) {
			return wrong()
		}
		v.SetFloat(x)
		return nil
	}
	return fmt.Errorf("%s can't be given in YAML", t)
}

func setDuration(v reflect.Value, s scalarText) error {
	text := strings.TrimSpace(s.Text)
	duration, err := time.ParseDuration(text)
	if err == nil {
		v.SetInt(int64(duration))
		return nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil && !s.FromFile {
		return code.Markf(code.DurationUnit, "want a duration with its unit, such as %ss, got %s", text, s.shown())
	}
	hint := ""
	if !s.FromFile {
		hint = plaintext.DurationHint(text)
	}
	return code.Markf(code.NotDuration, "want a duration such as 500ms, 30s or 168h, got %s%s", s.shown(), hint)
}

// asBool accepts, from an expansion, what variables say; written in YAML, what yaml.v3 takes for a boolean.
func asBool(s scalarText, text string) (value, ok bool) {
	if s.Whole {
		switch strings.ToLower(text) {
		case "1", "true", "yes", "on":
			return true, true
		case "0", "false", "no", "off":
			return false, true
		}
		return false, false
	}
	if s.Count > 0 || s.node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return false, false
	}
	err := s.node.Decode(&value)
	return value, err == nil
}

// numberHint says how to write a number of another syntax, or "".
func numberHint(t reflect.Type, text string) string {
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	case reflect.Float32, reflect.Float64:
		if decimal := strings.ReplaceAll(strings.TrimPrefix(text, "+"), "_", ""); strings.HasPrefix(decimal, ".") && plaintext.IsDecimal("0"+decimal, true) {
			return ": write 0" + decimal
		}
	default:
		return ""
	}
	return plaintext.DecimalHint(text)
}

// textUnmarshaler returns v's own UnmarshalText; a nil pointer is allocated.
func textUnmarshaler(v reflect.Value) (encoding.TextUnmarshaler, bool) {
	if v.Kind() == reflect.Pointer && v.Type().Implements(textUnmarshalerType) {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		u, ok := v.Interface().(encoding.TextUnmarshaler)
		return u, ok
	}
	u, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return u, ok
}

// untyped makes of an expansion, where no type says what is wanted, a boolean or a number if it is spelled as JSON
// spells those: "0123" and "yes" stay text.
func untyped(text string) any {
	switch text {
	case "true":
		return true
	case "false":
		return false
	}
	if i, err := strconv.Atoi(text); err == nil && strconv.Itoa(i) == text {
		return i
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && strconv.FormatFloat(f, 'f', -1, 64) == text && !math.IsInf(f, 0) && !math.IsNaN(f) {
		return f
	}
	return text
}
