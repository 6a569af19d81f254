package schema

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
)

// Unreadable returns the first error of the tokens of a GraphQL text, or nil. The
// parser says less: only that a token is invalid.
func Unreadable(text string) *gqlerror.Error {
	lex := lexer.New(&ast.Source{Input: text})
	for {
		tok, err := lex.ReadToken()
		if err != nil {
			return unreadable(text, tok, err)
		}
		if tok.Kind == lexer.EOF {
			return nil
		}
	}
}

// unreadable puts right what the lexer, which looks at single bytes, says of a
// character of several.
func unreadable(text string, tok lexer.Token, err error) *gqlerror.Error {
	var g *gqlerror.Error
	if !errors.As(err, &g) {
		return gqlerror.Wrap(err)
	}
	if !strings.HasPrefix(g.Message, "Cannot parse the unexpected character") {
		return g
	}
	n := 0
	for _, r := range text {
		if n == tok.Pos.Start && r >= utf8.RuneSelf {
			g.Message = fmt.Sprintf("Cannot parse the unexpected character %q: names are of the letters a to z, digits and _", string(r))
			break
		}
		n++
	}
	return g
}
