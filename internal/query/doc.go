// Package query turns GraphQL text into a plan and runs it. It hides the dialect: the
// names and types generated of collections, what conditions mean, and how selections
// are merged.
//
// How a request becomes rows:
//
//   - schema.go, types.go, selectors.go and builtin.go generate the GraphQL types of
//     collections, synonyms.go their second spellings.
//   - document.go parses a text, measures it (limits.go) and checks it against those
//     types (rules.go); cache.go keeps the result. input.go makes values of literals and
//     variables.
//   - compile.go plans an operation: select.go merges selections, level.go is what is
//     asked of each document of a list or each group, filter.go compiles conditions to
//     closures over the bytes of documents (condition.go on one value, json.go, like.go,
//     over.go over relations, fold.go what is known of them without data), order.go
//     sorts, aggregate.go and group.go add up. The plan is immutable; plan.go runs it.
//   - demands.go takes a filter apart into what it demands of a document, spans.go into
//     intervals of keys, ways.go makes of these the ways through indexes. At run time
//     find.go goes the ways in turns, and access.go takes the shortest, or the scan;
//     walk.go goes along an index whose order is the one wanted.
//   - rows.go has the operators: rows are pulled through them one by one, without
//     goroutines. relation.go and follow.go bring what relations lead to, acc.go and
//     tally.go accumulate while rows pass, past.go folds documents as they were, view.go
//     makes rows of rows, commits.go lists commits.
//   - output.go writes rows as JSON as they come. explain.go and print.go show the plan
//     instead, mutate.go changes documents before it selects them.
//
// What is wanted again as documents change: subscribe.go one event per change, live.go a
// result kept by patches (diff.go), refresh.go a view whose rows are stored (reach.go
// which of them a change concerns, pushdown.go what a filter on a view asks of the
// documents below).
//
// Whatever a run holds, for an order, a relation, a group or while ways are compared, it
// reserves (run.reserve, at most Limits.Held) and looks at its context every few rows
// (run.step). What a request may cost before it runs is counted while it is compiled:
// compiler.spend for fields and conditions, inputs.use for values.
package query
