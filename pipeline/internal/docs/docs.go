// Package docs finds the doc comments of config types and their fields in Go source, as plain text.
package docs

import (
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

// Index holds the doc comments of struct types by the name that reflect gives them ("sinks.RedisConfig"). Packages of
// one name may come from several places.
type Index map[string][]typeDoc

type typeDoc struct {
	text   string
	fields map[string]string // by the Go name; all exported fields are in, documented or not
}

// Read finds the doc comments in Go source files. The error says that a file is not Go.
func Read(sources ...fs.FS) (Index, error) {
	docs := Index{}
	for _, source := range sources {
		if err := docs.read(source); err != nil {
			return nil, fmt.Errorf("read the documentation of components: %w", err)
		}
	}
	return docs, nil
}

func (docs Index) read(source fs.FS) error {
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
func (docs Index) ofType(t reflect.Type) typeDoc {
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

// Type returns the doc comment of a config type as plain text, without the name of the type, and its first sentence.
func (docs Index) Type(t reflect.Type) (doc, summary string) {
	doc = withoutName(plainText(docs.ofType(t).text), t.Name())
	return doc, firstSentence(doc)
}

// Field returns the doc comment of a field of owner as plain text.
func (docs Index) Field(owner reflect.Type, goName string) string {
	return plainText(docs.ofType(owner).fields[goName])
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

// firstSentence ends at a full stop before a capital letter, or with the paragraph, whose colon (a list follows)
// becomes a full stop.
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
