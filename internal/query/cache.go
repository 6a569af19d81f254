package query

import (
	lru "container/list"
	"sync"
)

// cache keeps the documents that were used last, with the plans of those that
// depend on nothing but their text. It lives on the schema they were checked
// against, so a change of the schema cannot leave a stale one behind.
type cache struct {
	mu      sync.Mutex // guards all below
	entries map[string]*lru.Element
	order   *lru.List // of *document, the one used last in front
	text    int       // bytes of all texts
}

func (c *cache) get(text string) *document {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[text]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*document)
}

func (c *cache) put(d *document) {
	if len(d.text) > maxCachedEntry {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries, c.order = map[string]*lru.Element{}, lru.New()
	}
	if _, ok := c.entries[d.text]; ok {
		return
	}
	c.entries[d.text] = c.order.PushFront(d)
	c.text += len(d.text)
	for len(c.entries) > maxCached || c.text > maxCachedText {
		last := c.order.Back()
		old := c.order.Remove(last).(*document)
		delete(c.entries, old.text)
		c.text -= len(old.text)
	}
}
