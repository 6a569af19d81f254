package query

// Limits bound what one request may cost before and while it runs. A zero field
// means the default.
type Limits struct {
	// Text is the longest request text in bytes. Bulk contents belong into
	// variables, which the transport bounds.
	Text int
	// Tokens is the greatest number of tokens of the text: each takes some 200
	// bytes once parsed.
	Tokens int
	// Depth is how deep selections nest. An introspection query of an IDE needs
	// some 15.
	Depth int
	// Selections is the greatest number of selections in the text. Checking
	// whether selections with one response key agree compares them in pairs.
	Selections int
	// Cost is the greatest number of fields of a plan, after fragments have been
	// put in place: fragments within fragments grow exponentially.
	Cost int
	// Held is how many bytes of documents a request may hold at once, where an
	// order or a relation makes it hold any.
	Held int64
	// Answer is how many bytes an answer may have that is not streamed: that of a
	// mutation, and of any request in an explicit transaction.
	Answer int64
}

// AnswerLimit returns Answer, or its default.
func (l Limits) AnswerLimit() int64 { return l.withDefaults().Answer }

// Defaults of Limits.
const (
	DefaultText       = 2 << 20
	DefaultTokens     = 200_000
	DefaultDepth      = 32
	DefaultSelections = 2_000
	DefaultCost       = 10_000
	DefaultHeld       = 256 << 20
	DefaultAnswer     = 64 << 20
)

const (
	// maxFragments and maxVariables bound what checking a text compares with each
	// other.
	maxFragments = 500
	maxVariables = 1_000
	// maxLiteralDepth is how deep lists and objects nest in the text: every level
	// is looked at again from each level above it.
	maxLiteralDepth = 32
	// maxVariableDepth is the same for the variables of a request, of which there is
	// one level more.
	maxVariableDepth = maxLiteralDepth + 1
	// maxConditionDepth bounds the nesting of a filter, in the text or in
	// variables, so that building and running it needs a bounded stack.
	maxConditionDepth = 64
)

const (
	// maxCached is how many checked documents a schema keeps; a client that
	// builds texts instead of using variables must not fill the memory.
	maxCached = 512
	// maxCachedText bounds their texts together; checked, they take ten to
	// twenty times as much.
	maxCachedText = 1 << 20
	// maxCachedEntry keeps one bulk request from evicting all others.
	maxCachedEntry = 32 << 10
)

func (l Limits) withDefaults() Limits {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&l.Text, DefaultText)
	def(&l.Tokens, DefaultTokens)
	def(&l.Depth, DefaultDepth)
	def(&l.Selections, DefaultSelections)
	def(&l.Cost, DefaultCost)
	if l.Held <= 0 {
		l.Held = DefaultHeld
	}
	if l.Answer <= 0 {
		l.Answer = DefaultAnswer
	}
	return l
}
