package query

// truth says whether a condition depends on the data. What does not is known
// when the plan is made: a filter that excludes nothing is no filter, however it
// is written, and one that nothing meets needs no pass over a collection.
type truth uint8

const (
	always truth = iota // the zero value: nobody asks for anything
	never
	depends
)

// condition is a function of two things, or a constant; holds is set only if it
// depends on them.
type condition[A, B any] struct {
	truth
	holds func(A, B) bool
}

func when[A, B any](holds func(A, B) bool) condition[A, B] { return condition[A, B]{depends, holds} }

// allOf holds if all of cs do, also if there are none.
func allOf[A, B any](cs ...condition[A, B]) condition[A, B] { return joined(cs, always, never) }

// anyOf holds if one of cs does.
func anyOf[A, B any](cs ...condition[A, B]) condition[A, B] { return joined(cs, never, always) }

// joined joins conditions: one that is decisive decides, one that is neutral says
// nothing.
func joined[A, B any](cs []condition[A, B], neutral, decisive truth) condition[A, B] {
	var open []func(A, B) bool
	for _, c := range cs {
		switch c.truth {
		case decisive:
			return c
		case depends:
			open = append(open, c.holds)
		}
	}
	switch len(open) {
	case 0:
		return condition[A, B]{truth: neutral}
	case 1:
		return when(open[0])
	}
	decided := decisive == always
	return when(func(a A, b B) bool {
		for _, holds := range open {
			if holds(a, b) == decided {
				return decided
			}
		}
		return !decided
	})
}

func not[A, B any](c condition[A, B]) condition[A, B] {
	if c.truth != depends {
		return condition[A, B]{truth: c.truth.not()}
	}
	return when(func(a A, b B) bool { return !c.holds(a, b) })
}

// not returns the opposite of a constant.
func (t truth) not() truth {
	switch t {
	case always:
		return never
	case never:
		return always
	}
	return t
}
