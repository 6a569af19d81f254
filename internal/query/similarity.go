package query

import (
	"math"

	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/internal/value"
)

// similarity plans _similarity: the cosine between a list and a vector.
func (c *compiler) similarity(lv *level, s *selected) (column, error) {
	var read reader
	for _, a := range s.Arguments {
		v, given, err := c.in.argument(s.Field, a.Name)
		if err != nil {
			return column{}, err
		}
		if !given || v.IsNull() {
			continue
		}
		if read != nil {
			return column{}, fault.Invalid.Errorf("_similarity takes one list: select it twice, under two aliases")
		}
		vector, _ := v.Get("vector")
		if err := c.spend(vector.Len() / 100); err != nil {
			return column{}, err
		}
		read = cosineWith(vector.List(), c.elementsReader(lv.collection, lv.byName[a.Name]))
	}
	if read == nil {
		return column{}, fault.Invalid.Errorf("_similarity needs a list and a vector: write _similarity(list: {vector: [1, 0]})")
	}
	return column{read: read}, nil
}

// cosineWith returns what reads the cosine between a list and a vector. It is 0
// where either has no direction; elements that are null count as 0.
func cosineWith(vector []value.Value, read func(*run, *row) ([]value.Value, bool)) reader {
	unit := make([]float64, len(vector))
	for i, v := range vector {
		unit[i] = v.Float()
	}
	scaleToUnit(unit)
	return func(x *run, r *row) value.Value {
		list, ok := read(x, r)
		if !ok || x.err != nil {
			return value.OfFloat(0)
		}
		if len(list) != len(unit) {
			x.err = fault.Invalid.Errorf("source and vector must be of the same length. Source: %d, Vector: %d", len(list), len(unit))
			return value.Value{}
		}
		return value.OfFloat(cosine(list, unit))
	}
}

// scaleToUnit scales a vector to length 1, unless it is zero.
func scaleToUnit(v []float64) {
	most, sum := 0.0, 0.0
	for _, f := range v {
		most = max(most, math.Abs(f))
	}
	if most == 0 {
		return
	}
	for i := range v {
		v[i] /= most // so that squares neither overflow nor vanish
		sum += v[i] * v[i]
	}
	for i := range v {
		v[i] /= math.Sqrt(sum)
	}
}

func cosine(list []value.Value, unit []float64) float64 {
	most := 0.0
	for i := range list {
		most = max(most, math.Abs(list[i].Float()))
	}
	if most == 0 {
		return 0
	}
	dot, sum := 0.0, 0.0
	for i := range list {
		f := list[i].Float() / most
		dot += f * unit[i]
		sum += f * f
	}
	return min(max(dot/math.Sqrt(sum), -1), 1)
}
