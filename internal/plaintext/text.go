// Package plaintext judges texts and numbers that come from files and environment variables: whether they are what they
// look like. It imports nothing of penstock's, so that the loader and the command line can share it.
package plaintext

import (
	"errors"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Check reports what makes a text look like something else than it is: bytes that are no UTF-8, characters that can't
// be seen, blanks at its ends, and quotes around it. Such a text reaches a key, a host or a credential by accident,
// and nobody finds it there. The error shows the character, never the text.
func Check(s string) error {
	if s == "" {
		return nil
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return fmt.Errorf("is not UTF-8: it has the byte 0x%02x at position %d", s[i], i+1)
			}
		}
		if r == utf8.RuneError {
			return fmt.Errorf("has a replacement character in it (%s), which is what a wrong encoding leaves behind: character %d of %d",
				escaped(r), utf8.RuneCountInString(s[:i])+1, utf8.RuneCountInString(s))
		}
		if name := invisible(r); name != "" {
			return fmt.Errorf("has a %s in it: %s, character %d of %d", name, escaped(r), utf8.RuneCountInString(s[:i])+1, utf8.RuneCountInString(s))
		}
	}
	if s[0] == ' ' {
		return errors.New(`begins with a blank (" ")`)
	}
	if s[len(s)-1] == ' ' {
		return errors.New(`ends with a blank (" ")`)
	}
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	if family := quotes[first]; family != 0 && family == quotes[last] && utf8.RuneCountInString(s) > 1 {
		return fmt.Errorf("is wrapped in quotes (%c…%c), which would be a part of it: write it without them "+
			"(env files keep quotes as they are)", first, last)
	}
	return nil
}

// mostShown is how many characters of a value a message shows: enough to know it again.
const mostShown = 60

// Cut shortens a text for a message: one that is far too long must not push the rest of the message out of sight.
func Cut(s string) string {
	if len(s) <= mostShown {
		return s
	}
	if r := []rune(s); len(r) > mostShown {
		return string(r[:mostShown]) + "…"
	}
	return s
}

// quotes are the quotes with their family: languages differ in which one of a family opens and which one closes.
var quotes = map[rune]rune{
	'"': '"', '“': '"', '”': '"', '„': '"', '‟': '"',
	'\'': '\'', '‘': '\'', '’': '\'', '‚': '\'', '‛': '\'',
	'`': '`', '«': '«', '»': '«', '‹': '‹', '›': '‹',
}

// FindInvisible describes the first character of a line that can't be seen, tabs aside; "" without one.
func FindInvisible(line string) string {
	for i, r := range line {
		if name := invisible(r); name != "" && r != '\t' && r != '\r' {
			return fmt.Sprintf("%s %s at column %d", name, escaped(r), utf8.RuneCountInString(line[:i])+1)
		}
	}
	return ""
}

// invisible names a character that can't be seen, or that looks like a blank and is none; "" for every other one.
func invisible(r rune) string {
	switch {
	case r == '\n' || r == '\r' || r == '\u0085' || unicode.In(r, unicode.Zl, unicode.Zp):
		return "line end"
	case r == '\t':
		return "tab"
	case unicode.IsControl(r):
		return "control character"
	case r != ' ' && unicode.Is(unicode.Zs, r):
		return "blank of an unusual kind"
	case r == brailleBlank:
		return "blank of an unusual kind"
	case unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return "character that can't be seen"
	}
	return ""
}

// brailleBlank is drawn as nothing, though Unicode counts it as a sign.
const brailleBlank = '\u2800'

// escaped is the character as Go writes it, such as "\n" or "\u200b".
func escaped(r rune) string { return strconv.QuoteToASCII(string(r)) }
