package acp

import (
	"crypto/sha256"
	"sync"

	"github.com/pandodb/pando/internal/ident"
)

// Whether an author is in a group is asked once more for each anchor beside his commit.
// Thousands of commits beside each other know the same few things of groups: what all
// know is put into classes, and each question about these is asked once.

// seats are the questions after members that were answered.
type seats struct {
	class   []int            // of what each event knows; 0: not looked for
	classes map[[32]byte]int // by the hash of what is known; from 1
	answers map[seat]bool
	asked   []int // by class: the round in which it was asked for last
	round   int
}

// seat is a question: whether the author has the relation by what is known together.
type seat struct {
	known, with int
	of          *marks
	author      ident.PublicKey
}

// maxAnswers bounds the answers that are remembered, some 8 MiB.
const maxAnswers = 1 << 16

// sits reports whether the party has the relation of a group that a tuple names, by what
// it knows, and by what each anchor beside it knows besides.
func (v *Review) sits(p *party, t *marks) (bool, error) {
	own := p.class()
	if ok, err := v.member(p, t, own, nil); err != nil || !ok {
		return false, err
	}
	v.seats.round++
	round := v.seats.round
	for _, i := range v.anchors {
		if !p.beside.has(i) {
			continue
		}
		c := v.classAt(i)
		if c == own || v.seats.asked[c] == round {
			continue
		}
		v.seats.asked[c] = round
		if ok, err := v.member(p, t, c, func() []ID { return v.knows(i) }); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// member answers one question, from memory if it was asked before.
func (v *Review) member(p *party, t *marks, with int, besides func() []ID) (bool, error) {
	q := seat{p.class(), with, t, p.Author}
	if is, ok := v.seats.answers[q]; ok {
		return is, nil
	}
	known := p.known()
	if besides != nil {
		known = union(known, besides())
	}
	is, err := v.members.Member(known, t.Group, t.Relation, p.Author)
	if err != nil {
		return false, err
	}
	if v.seats.answers == nil || len(v.seats.answers) >= maxAnswers {
		v.seats.answers = map[seat]bool{}
	}
	v.seats.answers[q] = is
	return is, nil
}

// classAt returns the class of what an event knows.
func (v *Review) classAt(i int) int {
	if v.seats.class[i] == 0 {
		v.seats.class[i] = v.classOf(v.knows(i))
	}
	return v.seats.class[i]
}

func (v *Review) classing(p *party) func() int {
	return sync.OnceValue(func() int {
		known := p.known()
		if row := v.row.known; len(known) == 0 || len(row) != len(known) || &row[0] != &known[0] {
			return v.classOf(known)
		}
		if v.row.class == 0 {
			v.row.class = v.classOf(known)
		}
		return v.row.class
	})
}

// classOf returns the class of what is known, which is sorted.
func (v *Review) classOf(known []ID) int {
	h := sha256.New()
	for i := range known {
		h.Write(known[i][:])
	}
	sum := [32]byte(h.Sum(nil))
	c, ok := v.seats.classes[sum]
	if !ok {
		if v.seats.classes == nil {
			v.seats.classes, v.seats.asked = map[[32]byte]int{}, []int{0}
		}
		c = len(v.seats.classes) + 1
		v.seats.classes[sum] = c
		v.seats.asked = append(v.seats.asked, 0)
	}
	return c
}
