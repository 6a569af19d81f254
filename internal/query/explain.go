package query

import (
	"iter"
	"time"
)

// operatorStats is what a part of a plan did in a run.
type operatorStats struct {
	rows                      int
	scanned, entries, fetched int
	time                      time.Duration
	chose                     string
}

// rows returns the rows of an operator, counted if the run is explained.
func (x *run) rows(o operator, parent *row) iter.Seq2[*row, error] {
	return o.rows(x, parent)
}

// chose notes what an operator has chosen at run time.
func (x *run) chose(by, what operator) operator { return what }
