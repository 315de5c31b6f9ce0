package pipeline

import (
	"embed"
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Description is what a reader needs to know to write a component, or the pipeline itself, in YAML.
type Description struct {
	// Kind and Name are the component's; both are empty for the pipeline itself.
	Kind Kind
	Name string
	// Type is "settings", or for configs that are lists "list of sinks" and the like.
	Type string
	// Summary is the first sentence of Doc. Both are plain text, empty when the registry was not given the source.
	Summary string
	// Doc is the doc comment of the config type, without the name of the type.
	Doc string
	// Fields are the settings, in the order of the source.
	Fields []Field
}

// Field is one setting of a component or of the pipeline.
type Field struct {
	// Path is the setting's place in the component, such as "tls.ca_file", "rules[].name" for the elements of a list, and
	// "headers.*.name" for those of a mapping.
	Path string
	// Name is the last part of Path; "<sink>" for a component that stands among the settings.
	Name string
	// Type in the words of the error messages: "text", "whole number", "duration", "list of sinks".
	Type string
	// Default is what an absent value means, as YAML; "" when that is nothing.
	Default string
	// Required tells that the value must be there and must not be empty.
	Required bool
	// Enum lists the values that are allowed; empty means any.
	Enum []string
	// Doc is the field's doc comment, as plain text.
	Doc string
	// Fields are the settings inside this one.
	Fields []Field
}

// Describe describes a component. The error says that there is none of that kind and name (and which was likely meant),
// or that the source given to [Registry.Document] is not Go. It may be called concurrently.
func (r *Registry) Describe(kind Kind, name string) (Description, error) {
	reg, ok := r.Lookup(kind, name)
	if !ok {
		var names []string
		for _, reg := range r.Components(kind) {
			names = append(names, reg.Name)
		}
		return Description{}, fmt.Errorf("no %s is called %s%s", kind, name, didYouMean(name, names))
	}
	d, err := r.describe(reg.ConfigType)
	d.Kind, d.Name = kind, name
	return d, err
}

// DescribePipeline describes the pipeline itself: the top-level keys and what is in them.
func (r *Registry) DescribePipeline() (Description, error) {
	return r.describe(reflect.TypeFor[Config]())
}

func (r *Registry) describe(t reflect.Type) (Description, error) {
	docs, err := r.documentation()
	if err != nil {
		return Description{}, err
	}
	doc := docs.ofType(t)
	d := Description{Type: typeName(t), Doc: withoutName(plainText(doc.text), t.Name())}
	d.Summary = firstSentence(d.Doc)
	d.Fields = docs.fields(t, "", nil)
	return d, nil
}

// fields describes the settings of a type, however deep: of a struct, or of what a list or mapping holds. Types that
// contain themselves are described once.
func (docs docIndex) fields(t reflect.Type, prefix string, outer []reflect.Type) []Field {
	for {
		if _, ok := specKinds[t]; ok {
			return nil
		}
		switch t.Kind() {
		case reflect.Pointer:
			t = t.Elem()
			continue
		case reflect.Slice:
			t, prefix = t.Elem(), prefix+"[]"
			continue
		case reflect.Map:
			t, prefix = t.Elem(), join(prefix, "*")
			continue
		}
		break
	}
	if !hasKeys(t) {
		return nil
	}
	for _, o := range outer {
		if o == t {
			return nil
		}
	}
	var fields []Field
	for _, f := range configFields(t) {
		name := f.name
		if f.inlined {
			name = fmt.Sprintf("<%s>", specKinds[f.typ])
		}
		field := Field{
			Path: join(prefix, name), Name: name, Type: typeName(f.typ), Required: f.required || f.inlined, Enum: f.enum,
			Default: f.def, Doc: plainText(docs.ofType(f.owner).fields[f.goName]),
		}
		field.Fields = docs.fields(f.typ, field.Path, append(outer, t))
		fields = append(fields, field)
	}
	return fields
}

// docIndex holds the doc comments of struct types by the name that reflect gives them ("sinks.RedisConfig"). Packages of
// one name may come from several places.
type docIndex map[string][]typeDoc

type typeDoc struct {
	text   string
	fields map[string]string // by the Go name; all exported fields are in, documented or not
}

//go:embed config.go sinkfunc.go
var ownSource embed.FS

// documentation parses the source on the first call.
func (r *Registry) documentation() (docIndex, error) {
	r.docsMu.Lock()
	defer r.docsMu.Unlock()
	if r.docs != nil {
		return r.docs, nil
	}
	docs := docIndex{}
	for _, source := range append([]fs.FS{ownSource}, r.sources...) {
		if err := docs.read(source); err != nil {
			return nil, fmt.Errorf("read the documentation of components: %w", err)
		}
	}
	r.docs = docs
	return docs, nil
}

func (docs docIndex) read(source fs.FS) error {
	return fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls {
			types, ok := declaration.(*ast.GenDecl)
			if !ok || types.Tok != token.TYPE {
				continue
			}
			for _, spec := range types.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					key := file.Name.Name + "." + spec.Name.Name
					docs[key] = append(docs[key], docOf(types, spec))
				}
			}
		}
		return nil
	})
}

func docOf(declaration *ast.GenDecl, spec *ast.TypeSpec) typeDoc {
	doc := typeDoc{text: spec.Doc.Text(), fields: map[string]string{}}
	if doc.text == "" && len(declaration.Specs) == 1 {
		doc.text = declaration.Doc.Text()
	}
	st, ok := spec.Type.(*ast.StructType)
	if !ok {
		return doc
	}
	for _, f := range st.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		for _, name := range f.Names {
			doc.fields[name.Name] = text
		}
		if len(f.Names) == 0 {
			doc.fields[embeddedName(f.Type)] = text
		}
	}
	return doc
}

func embeddedName(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.StarExpr:
		return embeddedName(x.X)
	}
	return ""
}

// ofType returns the documentation of t: of several types of one name, that which has its fields.
func (docs docIndex) ofType(t reflect.Type) typeDoc {
candidates:
	for _, doc := range docs[t.String()] {
		if t.Kind() == reflect.Struct {
			for i := range t.NumField() {
				if _, ok := doc.fields[t.Field(i).Name]; !ok {
					continue candidates
				}
			}
		}
		return doc
	}
	return typeDoc{}
}

// plainText takes the markup out of a doc comment and joins the lines of each paragraph.
func plainText(text string) string {
	p := comment.Parser{LookupSym: func(string, string) bool { return true }} // [Name] is Name, whoever declares it
	printer := comment.Printer{TextWidth: -1}
	return strings.TrimSpace(string(printer.Text(p.Parse(text))))
}

// withoutName turns "RedisConfig stores writes" into "Stores writes", and "RedisConfig is the store" into "The store":
// users don't know the type.
func withoutName(text, name string) string {
	rest, ok := strings.CutPrefix(text, name+" ")
	if !ok || name == "" {
		return text
	}
	for _, verb := range []string{"is ", "are "} {
		if r, ok := strings.CutPrefix(rest, verb); ok {
			rest = r
			break
		}
	}
	first, size := utf8.DecodeRuneInString(rest)
	return string(unicode.ToUpper(first)) + rest[size:]
}

// firstSentence ends at a full stop before a capital letter, or with the paragraph, whose colon (a list follows) becomes
// a full stop.
func firstSentence(text string) string {
	text, _, _ = strings.Cut(text, "\n\n")
	for i := 0; i+2 < len(text); i++ {
		if text[i] == '.' && text[i+1] == ' ' && unicode.IsUpper(rune(text[i+2])) {
			return text[:i+1]
		}
	}
	if list, ok := strings.CutSuffix(text, ":"); ok {
		return list + "."
	}
	return text
}
