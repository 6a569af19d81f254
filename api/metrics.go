package api

import (
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/p2p"
)

// maxCopies bounds the copies of peers that have series of their own: a node with many
// peers and collections has the product of both.
const maxCopies = 1000

// scrapes bounds the metrics that are read at once, metricsTimeout how long one takes.
const (
	scrapes        = 4
	metricsTimeout = 10 * time.Second
)

// handleMetrics serves what Prometheus reads.
func (s *Server) handleMetrics() http.HandlerFunc {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(), &metrics{s})
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{
		MaxRequestsInFlight: scrapes, Timeout: metricsTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
	})
	return func(w http.ResponseWriter, r *http.Request) {
		if err := refuseTx(r); err != nil {
			s.fail(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	}
}

// metrics collects the figures of a node when they are asked for; it asks no peer.
type metrics struct{ s *Server }

// Describe says nothing: what there is depends on peers and collections.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect tells the figures of now.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(m.s.requests, metricsTimeout)
	defer cancel()
	c := collector{to}
	c.storage(m.s.db)
	for kind, n := range m.s.audit.Counts() {
		c.put("denied_total", "Attempts that were denied, by why.", float64(n), "kind", kind)
	}
	if m.s.node == nil {
		sums, err := m.s.db.Replica().Summaries(ctx)
		if err != nil {
			c.failed(err)
			return
		}
		c.documents(ctx, m.s.db, sums)
		return
	}
	st, err := m.s.node.LocalStatus(ctx)
	if err != nil {
		c.failed(err)
		return
	}
	c.documents(ctx, m.s.db, st.Collections)
	c.counters(st.Counters)
	c.network(st)
	c.peers(st)
	c.replicators(st.Replicators)
}

type collector struct{ to chan<- prometheus.Metric }

func (c collector) failed(err error) {
	c.to <- prometheus.NewInvalidMetric(prometheus.NewDesc("pando_unreadable", "What could not be read.", nil, nil), err)
}

// put tells one figure. labels are names and values in turn.
func (c collector) put(name, help string, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if strings.HasSuffix(name, "_total") {
		kind = prometheus.CounterValue
	}
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc("pando_"+name, help, names, nil), kind, value, values...)
	if err != nil {
		c.failed(err)
		return
	}
	c.to <- m
}

func (c collector) storage(db *pando.DB) {
	s := db.Storage()
	c.put("feed_sequence", "Number of the newest change in the feed of this node.", float64(db.Seq()))
	c.put("storage_bytes", "Bytes of all files.", float64(s.DiskBytes))
	c.put("storage_log_bytes", "Of these, the log of what is not in tables yet.", float64(s.WALBytes))
	c.put("storage_memtable_bytes", "Memory of what is not in tables yet.", float64(s.MemTableBytes))
	c.put("storage_tables", "Files of tables.", float64(s.Tables))
	c.put("storage_cache_bytes", "Memory of the cache of blocks.", float64(s.CacheBytes))
	c.put("storage_cache_hits_total", "Blocks that were in the cache.", float64(s.CacheHits))
	c.put("storage_cache_misses_total", "Blocks that had to be read.", float64(s.CacheMisses))
	c.put("storage_flushes_total", "Times that memory was written into a table.", float64(s.Flushes))
	c.put("storage_compactions_total", "Times that tables were merged.", float64(s.Compactions))
	c.put("storage_compaction_debt_bytes", "Bytes that are still to be merged. Growing: the disk is too slow.", float64(s.CompactionDebt))
	c.put("storage_read_amplification", "Tables that a read may have to look into.", float64(s.ReadAmplification))
	c.put("storage_snapshots", "Snapshots that keep what is overwritten.", float64(s.Snapshots))
}

func (c collector) documents(ctx context.Context, db *pando.DB, sums []pando.Summary) {
	for _, sum := range sums {
		c.put("documents", "Documents, without those deleted.", float64(sum.Alive), "collection", sum.Name)
		locked, err := db.Replica().Locked(ctx, sum.Collection)
		if err != nil {
			c.failed(err)
			return
		}
		c.put("documents_locked", "Documents that no key here opens, counted up to 10,000.", float64(locked), "collection", sum.Name)
	}
}

func (c collector) counters(all p2p.Counters) {
	v := reflect.ValueOf(all)
	for i := range v.NumField() {
		m, ok := p2p.Metrics[v.Type().Field(i).Name]
		if !ok {
			continue // a test of p2p says so
		}
		c.put(m.Name, m.Help, float64(number(v.Field(i))))
	}
}

// network tells what concerns all peers together.
func (c collector) network(st p2p.Status) {
	c.put("start_time_seconds", "When the node was started.", seconds(st.Started))
	c.put("clock_skew_seconds", "Median of how far the clocks of the peers are ahead.", st.Skew.Seconds())
	for _, q := range st.Queues {
		c.put("queue_items", "What waits.", float64(q.Items), "queue", q.Name)
		if q.Limit > 0 {
			c.put("queue_limit", "How much may wait, where that is bounded by itself.", float64(q.Limit), "queue", q.Name)
		}
		if q.Bytes > 0 {
			c.put("queue_bytes", "Bytes of what waits, where they are counted.", float64(q.Bytes), "queue", q.Name)
		}
	}
	for _, sum := range st.Collections {
		m := st.Moved[sum.Collection.String()]
		c.put("collection_received_bytes_total", "Bytes that came for a collection.", float64(m.Received), "collection", sum.Name)
		c.put("collection_sent_bytes_total", "Bytes that went for a collection.", float64(m.Sent), "collection", sum.Name)
	}
	c.delays(st.Delays)
}

func (c collector) delays(d p2p.Delays) {
	desc := prometheus.NewDesc("pando_change_delay_seconds", "How long live changes of others were on their way, by the clocks of both.", nil, nil)
	upTo, sum := map[float64]uint64{}, uint64(0)
	for i, bound := range p2p.DelayBounds {
		sum += d.Buckets[i]
		upTo[bound.Seconds()] = sum
	}
	h, err := prometheus.NewConstHistogram(desc, d.Count, d.Total.Seconds(), upTo)
	if err != nil {
		c.failed(err)
		return
	}
	c.to <- h
}

// peers tells of each peer, and of its copies as far as there is room.
func (c collector) peers(st p2p.Status) {
	connected, copies := 0, 0
	mismatched := map[string]int{}
	for _, p := range st.Peers {
		up := 0.0
		if p.Connected {
			up = 1
			connected++
		}
		c.put("peer_connected", "1 if the peer is connected, 0 if it is known and is not.", up, "peer", p.ID)
		c.put("peer_received_bytes_total", "Bytes that came from a peer.", float64(p.Received), "peer", p.ID)
		c.put("peer_sent_bytes_total", "Bytes that went to a peer.", float64(p.Sent), "peer", p.ID)
		c.put("peer_score", "How a peer behaves: 0 is good, at -400 gossip does not listen to it.", p.Score, "peer", p.ID)
		c.put("peer_session_timestamp_seconds", "When the last session with a peer began, 0 if there was none.", seconds(p.Session.At), "peer", p.ID)
		for _, one := range p.Collections {
			if !one.Mismatch.IsZero() {
				mismatched[one.Name]++
			}
			if copies++; copies > maxCopies {
				continue
			}
			labels := []string{"peer", p.ID, "collection", one.Name}
			c.put("copy_compared_timestamp_seconds", "When the copy of a peer was compared last, 0 if never.", seconds(one.Compared), labels...)
			c.put("copy_identical_timestamp_seconds", "When the copy of a peer was found identical last, 0 if never.", seconds(one.Same), labels...)
			c.put("copy_wants", "Incomplete documents that a peer told of.", float64(one.Wants), labels...)
		}
	}
	c.put("peers_known", "Peers that are connected or remembered.", float64(len(st.Peers)))
	c.put("peers_connected", "Peers that are connected.", float64(connected))
	c.put("copies_left_out", "Copies of peers that have no series, because there are too many.", float64(max(0, copies-maxCopies)))
	for _, sum := range st.Collections {
		c.put("mismatched_copies", "Quiet copies of peers that stay different. More than none: a database is damaged.", float64(mismatched[sum.Name]), "collection", sum.Name)
	}
}

func (c collector) replicators(all []p2p.ReplicatorStatus) {
	for _, r := range all {
		active := 0.0
		if r.State == p2p.Active {
			active = 1
		}
		c.put("replicator_active", "1 if changes are pushed to the peer without a problem.", active, "peer", r.Peer)
		c.put("replicator_behind", "Changes that the peer has not acknowledged.", float64(r.Behind), "peer", r.Peer)
		c.put("replicator_acknowledged_timestamp_seconds", "When the peer acknowledged something last, 0 if never since the start.", seconds(r.LastAck), "peer", r.Peer)
	}
}

func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
