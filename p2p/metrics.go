package p2p

// Metric is what monitoring calls a figure.
type Metric struct{ Name, Help string }

// Metrics has one for each field of Counters. What goes up for ever ends with _total;
// the others are of now.
var Metrics = map[string]Metric{
	"Received":       {"sync_received_bytes_total", "Bytes that came over streams of sync and fetch."},
	"Sent":           {"sync_sent_bytes_total", "Bytes that went over streams of sync and fetch."},
	"RoundTrips":     {"sync_round_trips_total", "Times that this node waited for the answer of a peer it had asked."},
	"GossipReceived": {"gossip_received_bytes_total", "Bytes that came by gossip."},
	"GossipSent":     {"gossip_sent_bytes_total", "Bytes that went by gossip."},
	"Sessions":       {"sessions_total", "Sessions that this node opened."},
	"Served":         {"served_streams_total", "Streams of peers that were served."},
	"Fetches":        {"fetches_total", "Streams that this node fetched over."},
	"Merged":         {"merged_commits_total", "Commits that came from peers and were merged."},
	"Announced":      {"announced_commits_total", "Commits that were told of by gossip."},
	"Heard":          {"heard_commits_total", "Commits that were heard of by gossip."},
	"Mismatches":     {"mismatches_total", "Comparisons after which two quiet copies stayed different. More than none: a database is damaged."},
	"InvalidCommits": {"invalid_commits_total", "Commits that came and were invalid."},
	"Breaches":       {"breaches_total", "Times that a peer broke the protocol and was cut off."},
	"Refused":        {"refused_streams_total", "Streams that were answered with a refusal."},
	"Blamed":         {"blamed_total", "Times that a peer was found to lie, or to be of no use."},
	"Overflows":      {"inbox_overflows_total", "Documents dropped from the inbox, to be found again by comparing."},
	"Undelivered":    {"gossip_undelivered_total", "Announcements lost in a queue, made up for by comparing."},
	"WantOverflows":  {"want_overflows_total", "Incomplete documents that could not be noted, to be found again by comparing."},
	"ExpiredWants":   {"wants_expired_total", "Documents left incomplete because nobody had the rest for a week."},
	"Gated":          {"gated_connections_total", "Connections refused to peers that are denied, or not allowed."},
	"Pruned":         {"pruned_strangers_total", "Strangers that were sent away."},
	"Wants":          {"wants", "Documents that are known to be incomplete."},
	"StuckWants":     {"wants_stuck", "Documents that have been incomplete for more than a day."},
	"Oversubscribed": {"oversubscribed_total", "Topics that peers follow beyond what is remembered."},
	"Throttled":      {"throttled_total", "Requests of peers that were above their quota."},
	"Relayed":        {"relayed_connections_total", "Connections between other peers that this node relayed."},
	"RelayedBytes":   {"relayed_bytes_total", "Bytes between other peers that this node relayed."},
	"Punched":        {"punched_total", "Connections over a relay that became direct."},
	"Introduced":     {"introduced_total", "Peers reached of which members told."},
	"TopicSent":      {"application_messages_sent_total", "Messages of applications that were published here."},
	"TopicHeard":     {"application_messages_heard_total", "Messages of applications that came."},
	"TopicDropped":   {"application_messages_dropped_total", "Messages of applications that came too fast, too late or twice, or that nobody read in time."},
	"TopicRefused":   {"application_messages_refused_total", "Messages of applications that broke the rules."},
	"Topics":         {"topics", "Topics that the node takes part in."},
	"Unfollowed":     {"unfollowed_collections", "Collections that lack topics: their changes come late, or twice."},
}
