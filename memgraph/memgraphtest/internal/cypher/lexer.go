package cypher

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenQuoted // a name in backticks: never a keyword
	tokenInt
	tokenFloat
	tokenString
	tokenParam
	tokenSymbol
)

// token is a piece of a query; text is what it stands for, start and end say
// where it was.
type token struct {
	kind       tokenKind
	text       string
	start, end int
}

// is reports whether the token is the keyword or symbol.
func (t token) is(word string) bool {
	switch t.kind {
	case tokenName:
		return strings.EqualFold(t.text, word)
	case tokenSymbol:
		return t.text == word
	}
	return false
}

// symbols of more than one character, which are tried before single ones.
var symbols = []string{"<=", ">=", "<>", "+=", ".."}

// lex splits a query; it never fails: what it does not know is a symbol.
func lex(query string) []token {
	var tokens []token
	for at := 0; ; {
		at = skipBlank(query, at)
		t := next(query, at)
		tokens = append(tokens, t)
		if t.kind == tokenEnd {
			return tokens
		}
		at = t.end
	}
}

// skipBlank passes white space and comments.
func skipBlank(query string, at int) int {
	for at < len(query) {
		rest := query[at:]
		switch {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			at++
		case strings.HasPrefix(rest, "//"):
			at += until(rest, "\n")
		case strings.HasPrefix(rest, "/*"):
			at += until(rest, "*/")
		default:
			return at
		}
	}
	return at
}

// until is the length of s up to and with end.
func until(s, end string) int {
	if i := strings.Index(s[1:], end); i >= 0 {
		return 1 + i + len(end)
	}
	return len(s)
}

func next(query string, at int) token {
	if at >= len(query) {
		return token{kind: tokenEnd, text: "<EOF>", start: at, end: at}
	}
	switch c := query[at]; {
	case isLetter(c):
		end := at + span(query[at:], isWord)
		return token{tokenName, query[at:end], at, end}
	case c == '$':
		end := at + 1 + span(query[at+1:], isWord)
		return token{tokenParam, query[at+1 : end], at, end}
	case isDigit(c):
		return number(query, at)
	case c == '\'' || c == '"':
		return quoted(query, at)
	case c == '`':
		end := at + until(query[at:], "`")
		return token{tokenQuoted, strings.Trim(query[at:end], "`"), at, end}
	}
	for _, s := range symbols {
		if strings.HasPrefix(query[at:], s) {
			return token{tokenSymbol, s, at, at + len(s)}
		}
	}
	_, size := utf8.DecodeRuneInString(query[at:])
	return token{tokenSymbol, query[at : at+size], at, at + size}
}

func number(query string, at int) token {
	end := at + span(query[at:], isDigit)
	kind := tokenInt
	if end+1 < len(query) && query[end] == '.' && isDigit(query[end+1]) {
		kind = tokenFloat
		end += 1 + span(query[end+1:], isDigit)
	}
	return token{kind, query[at:end], at, end}
}

// quoted reads a string with its escapes resolved.
func quoted(query string, at int) token {
	var text strings.Builder
	for i := at + 1; i < len(query); i++ {
		switch c := query[i]; {
		case c == query[at]:
			return token{tokenString, text.String(), at, i + 1}
		case c == '\\' && i+1 < len(query):
			i++
			r, _, _, err := strconv.UnquoteChar(`\`+query[i:i+1], 0)
			if err != nil {
				r = rune(query[i])
			}
			text.WriteRune(r)
		default:
			text.WriteByte(c)
		}
	}
	return token{tokenSymbol, query[at : at+1], at, at + 1} // not closed
}

func span(s string, in func(byte) bool) int {
	n := 0
	for n < len(s) && in(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= utf8.RuneSelf }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) }
