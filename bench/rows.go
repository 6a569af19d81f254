package main

// question is one row of the table: the same question to both.
type question struct {
	name   string
	pando  string
	sqlite string
	// args returns the variables and the arguments of the i-th time it is asked.
	args    func(p *pair, i int) (map[string]any, []any)
	ordered bool // the order of the rows is part of the answer
}

// questions are those that read. Where the answer says nothing of an order, the
// database may choose one.
var questions = []question{
	{name: "read by docID", pando: `query ($id: [String!]) { Plain(docID: $id) { n name email city age score active joined notes points } }`,
		sqlite: `SELECT n, name, email, city, age, score, active, joined, notes, points FROM Plain WHERE id = ?`,
		args: func(p *pair, i int) (map[string]any, []any) {
			n := i * 7919 % len(p.people)
			return map[string]any{"id": []string{p.ids[n]}}, []any{n}
		}},
	{name: "read all", pando: `{ Plain { n name email city age score active joined notes points } }`,
		sqlite: `SELECT n, name, email, city, age, score, active, joined, notes, points FROM Plain`},

	{name: "scan: number, few", pando: `query ($v: Int) { Plain(filter: {points: {_lt: $v}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Plain WHERE points < ?`, args: constant("v", 1000)},
	{name: "scan: text and number, few", pando: `query ($c: String) { Plain(filter: {city: {_eq: $c}, age: {_gt: 90}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Plain WHERE city = ? AND age > 90`, args: city("c")},
	{name: "scan: like, few", pando: `query ($v: String) { Plain(filter: {notes: {_like: $v}}) { n notes } }`,
		sqlite: `SELECT n, notes FROM Plain WHERE notes LIKE ?`, args: constant("v", "%about 12%")},
	{name: "scan: one or another, few", pando: `query ($v: Int) { Plain(filter: {_or: [{points: {_lt: $v}}, {age: {_gt: 96}, active: {_eq: true}}]}) { n } }`,
		sqlite: `SELECT n FROM Plain WHERE points < ? OR (age > 96 AND active = 1)`, args: constant("v", 1000)},
	{name: "scan: half of all", pando: `{ Plain(filter: {active: {_eq: true}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Plain WHERE active = 1`},

	{name: "count of all", pando: `{ _count(Plain: {}) }`, sqlite: `SELECT count(*) FROM Plain`},
	{name: "count with a filter", pando: `{ _count(Plain: {filter: {active: {_eq: true}}}) }`, sqlite: `SELECT count(*) FROM Plain WHERE active = 1`},
	{name: "sum", pando: `{ _sum(Plain: {field: points}) }`, sqlite: `SELECT sum(points) FROM Plain`},
	{name: "average", pando: `{ _avg(Plain: {field: score}) }`, sqlite: `SELECT avg(score) FROM Plain`},
	{name: "least and greatest", pando: `{ least: _min(Plain: {field: score}) greatest: _max(Plain: {field: score}) }`,
		sqlite: `SELECT min(score), max(score) FROM Plain`},
	{name: "group by, count and average", pando: `{ Plain(groupBy: [city]) { city _count(_group: {}) _avg(_group: {field: age}) } }`,
		sqlite: `SELECT city, count(*), avg(age) FROM Plain GROUP BY city`},
	{name: "group by two", pando: `{ Plain(groupBy: [city, active]) { city active _sum(_group: {field: points}) } }`,
		sqlite: `SELECT city, active, sum(points) FROM Plain GROUP BY city, active`},

	{name: "order, first 10", pando: `{ Plain(order: [{score: DESC}, {n: ASC}], limit: 10) { n name score } }`,
		sqlite: `SELECT n, name, score FROM Plain ORDER BY score DESC, n LIMIT 10`, ordered: true},
	{name: "order, all", pando: `{ Plain(order: [{city: ASC}, {n: DESC}]) { n city } }`,
		sqlite: `SELECT n, city FROM Plain ORDER BY city, n DESC`, ordered: true},

	{name: "index: equal, one", pando: `query ($v: String) { Indexed(filter: {email: {_eq: $v}}) { n name email city age score active joined notes points } }`,
		sqlite: `SELECT n, name, email, city, age, score, active, joined, notes, points FROM Indexed WHERE email = ?`,
		args: func(p *pair, i int) (map[string]any, []any) {
			v := p.people[i*7919%len(p.people)].Email
			return map[string]any{"v": v}, []any{v}
		}},
	{name: "index: equal, 1 of 100", pando: `query ($v: String) { Indexed(filter: {city: {_eq: $v}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Indexed WHERE city = ?`, args: city("v")},
	{name: "index: in", pando: `query ($v: [String]) { Indexed(filter: {email: {_in: $v}}) { n name } }`,
		sqlite: `SELECT n, name FROM Indexed WHERE email IN (?, ?, ?, ?, ?)`,
		args: func(p *pair, i int) (map[string]any, []any) {
			var vs []any
			for k := range 5 {
				vs = append(vs, p.people[(i*7919+k*31)%len(p.people)].Email)
			}
			return map[string]any{"v": vs}, vs
		}},
	{name: "index: range of 100", pando: `query ($a: Int, $b: Int) { Indexed(filter: {n: {_ge: $a, _lt: $b}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Indexed WHERE n >= ? AND n < ?`,
		args: func(p *pair, i int) (map[string]any, []any) {
			a := i * 7919 % (len(p.people) - 99)
			return map[string]any{"a": a, "b": a + 100}, []any{a, a + 100}
		}},
	{name: "index: two columns", pando: `query ($c: String) { Indexed(filter: {city: {_eq: $c}, age: {_gt: 90}}) { n name age } }`,
		sqlite: `SELECT n, name, age FROM Indexed WHERE city = ? AND age > 90`, args: city("c")},
	{name: "index: order, first 10", pando: `{ Indexed(order: {n: DESC}, limit: 10) { n name } }`,
		sqlite: `SELECT n, name FROM Indexed ORDER BY n DESC LIMIT 10`, ordered: true},
	{name: "index: equal, order, first 10", pando: `query ($c: String) { Indexed(filter: {city: {_eq: $c}}, order: [{age: DESC}], limit: 10) { age } }`,
		sqlite: `SELECT age FROM Indexed WHERE city = ? ORDER BY age DESC LIMIT 10`, args: city("c"), ordered: true},
	{name: "index: count", pando: `query ($v: String) { _count(Indexed: {filter: {city: {_eq: $v}}}) }`,
		sqlite: `SELECT count(*) FROM Indexed WHERE city = ?`, args: city("v")},

	{name: "join: all authors, their books", pando: `{ Author { n name books { n title } } }`,
		sqlite: `SELECT a.n, a.name, b.n, b.title FROM Author a JOIN Book b ON b.author = a.id`},
	{name: "join: all books, their author", pando: `{ Book { n title author { n name } } }`,
		sqlite: `SELECT b.n, b.title, a.n, a.name FROM Book b JOIN Author a ON a.id = b.author`},
	{name: "join: 10 authors, their books", pando: `{ Author(order: {n: ASC}, limit: 10) { n books(order: {n: ASC}) { n } } }`,
		sqlite: `SELECT a.n, b.n FROM (SELECT * FROM Author ORDER BY n LIMIT 10) a JOIN Book b ON b.author = a.id ORDER BY a.n, b.n`, ordered: true},
	{name: "join: books by a city of the author", pando: `query ($v: String) { Book(filter: {author: {city: {_eq: $v}}}) { n title } }`,
		sqlite: `SELECT b.n, b.title FROM Book b JOIN Author a ON a.id = b.author WHERE a.city = ?`, args: city("v")},
	{name: "join: authors of a long book", pando: `query ($v: Int) { Author(filter: {books: {pages: {_gt: $v}}}) { n name } }`,
		sqlite: `SELECT n, name FROM Author a WHERE EXISTS (SELECT 1 FROM Book b WHERE b.author = a.id AND b.pages > ?)`, args: constant("v", 990)},
	{name: "join: pages of each author", pando: `{ Author { n _sum(books: {field: pages}) } }`,
		sqlite: `SELECT a.n, sum(b.pages) FROM Author a JOIN Book b ON b.author = a.id GROUP BY a.id`},
}

func constant(name string, v any) func(*pair, int) (map[string]any, []any) {
	return func(*pair, int) (map[string]any, []any) { return map[string]any{name: v}, []any{v} }
}

func city(name string) func(*pair, int) (map[string]any, []any) {
	return func(p *pair, i int) (map[string]any, []any) {
		c := p.people[i*7919%len(p.people)].City
		return map[string]any{name: c}, []any{c}
	}
}
