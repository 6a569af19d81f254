package query

import (
	"math"
	"math/big"
	"math/bits"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// function is one of the aggregates: its place in functions.
type function uint8

const (
	fnCount function = iota
	fnSum
	fnAvg
	fnMin
	fnMax
)

func (fn function) String() string { return functions[fn].name }

// functionOf returns the aggregate of that name, or nil.
func functionOf(name string) *function {
	for i := range functions {
		if functions[i].name == name {
			fn := function(i)
			return &fn
		}
	}
	return nil
}

// acc accumulates what one aggregate has seen so far. Integers are summed up in
// 128 bits, so that the order does not matter to whether a sum fits 64; floats
// with the error of each addition beside (Neumaier).
type acc struct {
	seen   uint64 // rows that the condition let through, for limit and offset
	n      uint64 // numbers, or rows counted
	hi     int64
	lo     uint64
	sum    float64
	lost   float64
	floats bool
	best   value.Value // least or greatest
}

// accSize is what an accumulator takes in memory.
const accSize = 112

// add takes in a value: a number, or each number of a list.
func (a *acc) add(fn function, v *value.Value) {
	switch v.Kind() {
	case value.Int, value.Float32, value.Float64:
	case value.List:
		list := v.List()
		for i := range list {
			a.add(fn, &list[i])
		}
		return
	default:
		return
	}
	a.n++
	switch fn {
	case fnSum, fnAvg:
		if v.Kind() == value.Int {
			a.addInt(v.Int()>>63, uint64(v.Int()))
			return
		}
		a.floats = true
		a.addFloat(v.Float())
	case fnMin:
		if a.n == 1 || value.Compare(*v, a.best) < 0 {
			a.best = *v
		}
	case fnMax:
		if a.n == 1 || value.Compare(*v, a.best) > 0 {
			a.best = *v
		}
	}
}

func (a *acc) addInt(hi int64, lo uint64) {
	var carry uint64
	a.lo, carry = bits.Add64(a.lo, lo, 0)
	a.hi += hi + int64(carry)
}

func (a *acc) addFloat(f float64) {
	t := a.sum + f
	if math.Abs(a.sum) >= math.Abs(f) {
		a.lost += (a.sum - t) + f
	} else {
		a.lost += (f - t) + a.sum
	}
	a.sum = t
}

// merge takes in what another has accumulated of the same aggregate.
func (a *acc) merge(fn function, o *acc) {
	if o.n == 0 {
		return
	}
	switch fn {
	case fnSum, fnAvg:
		a.addInt(o.hi, o.lo)
		a.floats = a.floats || o.floats
		a.addFloat(o.sum)
		a.addFloat(o.lost)
	case fnMin, fnMax:
		c := value.Compare(o.best, a.best)
		if a.n == 0 || fn == fnMin && c < 0 || fn == fnMax && c > 0 {
			a.best = o.best
		}
	}
	a.n += o.n
}

// result returns the value of the aggregate.
func (a *acc) result(fn function) (value.Value, error) {
	switch fn {
	case fnCount:
		return value.OfInt(int64(a.n)), nil
	case fnMin, fnMax:
		return a.best, nil
	case fnSum:
		if !a.floats {
			if a.hi != int64(a.lo)>>63 {
				return value.Value{}, fault.Invalid.Errorf("the sum of integers does not fit 64 bits: sum fewer of them, or a field of type Float")
			}
			return value.OfInt(int64(a.lo)), nil
		}
		return a.float(1)
	}
	if a.n == 0 {
		return value.OfFloat(0), nil
	}
	return a.float(float64(a.n))
}

// float returns the sum, divided.
func (a *acc) float(by float64) (value.Value, error) {
	whole := float64(int64(a.lo))
	if a.hi != int64(a.lo)>>63 {
		wide := new(big.Int).Lsh(big.NewInt(a.hi), 64)
		whole, _ = new(big.Float).SetInt(wide.Or(wide, new(big.Int).SetUint64(a.lo))).Float64()
	}
	total := *a
	total.addFloat(whole)
	f := (total.sum + total.lost) / by
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return value.Value{}, fault.Invalid.Errorf("the sum is beyond what a Float can hold: sum fewer numbers")
	}
	return value.OfFloat(f), nil
}
