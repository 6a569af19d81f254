package schema

import (
	"github.com/pandodb/pando/internal/fault"
	"slices"
	"strings"
)

var scalarNames = []string{"ID", "Boolean", "Int", "Float", "Float64", "Float32", "String", "DateTime", "Blob", "JSON"}

// builtIn are the names that the generated GraphQL schema takes for itself: types,
// and what stands beside the collections at the root. File is kept for attachments.
var builtIn = []string{
	"Query", "Mutation", "Subscription", "Commit", "CommitLink", "CommitDelta", "Signature", "File",
	"commits", "latestCommits", "commitsOrderArg", "commitFields", "commitCountFieldArg",
	"Ordering", "CRDTType", "ExplainType", "IndexField", "DocIDMode",
	"COUNT", "SUM", "AVG", "MIN", "MAX", "GROUP",
	"true", "false", "null",
}

// generated are the endings of the types that every collection brings along.
var generated = []string{"Field", "ExplicitField", "NumericFieldsArg", "FilterArg", "OrderArg", "MutationInputArg"}

func isBuiltIn(name string) bool {
	if slices.Contains(builtIn, name) || slices.Contains(scalarNames, name) {
		return true
	}
	for _, end := range []string{"ListOperatorBlock", "OperatorBlock", "FilterArg"} {
		scalar, ok := strings.CutSuffix(strings.TrimPrefix(name, "NotNull"), end)
		if ok && slices.Contains(scalarNames, scalar) {
			return true
		}
	}
	return false
}

// generatedBy returns the collection among those that taken reports whose
// generated types include name.
func generatedBy(name string, taken func(string) bool) (owner string, ok bool) {
	for _, end := range generated {
		if owner, ok := strings.CutSuffix(name, end); ok && taken(owner) {
			return owner, true
		}
	}
	if i := strings.Index(name, "__"); i > 0 && taken(name[:i]) {
		return name[:i], true
	}
	return "", false
}

// didYouMean returns the hint that names the candidates nearest to name, or, with
// none near and not many at all, lists them.
func didYouMean(name string, candidates []string) string {
	const few = 12
	var near []string
	for _, c := range candidates {
		if strings.EqualFold(c, name) || distance(name, c) <= (len(name)+2)/4 {
			near = append(near, c)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int { return distance(name, a) - distance(name, b) })
	if len(near) > 3 {
		near = near[:3]
	}
	switch {
	case len(near) > 0:
		return "did you mean " + strings.Join(near, " or ") + "?"
	case len(candidates) == 0:
		return "there are none"
	case len(candidates) == 1:
		return "the only one is " + candidates[0]
	case len(candidates) <= few:
		return "there are " + strings.Join(candidates, ", ")
	}
	return "there are " + strings.Join(candidates[:few], ", ") + " and more"
}

// distance counts the bytes to insert, delete, replace or swap with a neighbour
// to make a into b. Names longer than MaxName never get here with a near one.
func distance(a, b string) int {
	if len(a) > MaxName || len(b) > MaxName {
		return MaxName
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// CheckTogether returns Exists if two of the names of collections are the same, or
// one is that of a type generated for another. Parse checks this with line numbers;
// this is for collections that come from a peer.
func CheckTogether(names []string) error {
	taken := make(map[string]bool, len(names))
	for _, n := range names {
		if taken[n] {
			return fault.Exists.Errorf("collection already exists. Name: %s: choose another name", n)
		}
		taken[n] = true
	}
	for _, n := range names {
		if owner, ok := generatedBy(n, func(n string) bool { return taken[n] }); ok {
			return fault.Exists.Errorf("collection %s has the name of a type generated for collection %s: one of them must be renamed where it was made", n, owner)
		}
	}
	return nil
}
