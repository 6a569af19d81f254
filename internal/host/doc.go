// Package host makes a node reachable on a network: how its host is made and listens, who
// may connect to it, how it finds others and is found, and how two get through to each
// other that nobody reaches.
//
// It hides of which parts of libp2p that is made. It knows peers, by their keys, and
// nothing of documents, collections or sync: what a node has to do with a peer it asks
// (Ties), and what it keeps of the operator's lists it is given (Listed, Save). Packages
// above see the connections and streams of libp2p, and none of its parts.
//
// # Where to look
//
//	host      the whole: Config, New, Listen, Close
//	parts     the libp2p host: transports, keys, limits
//	gate      who may connect: open or closed, allowed and denied
//	door      strangers, and how long they stay
//	conns     connections: made, looked at, given up when a better one is there
//	reach     whether others reach this host, and the relays that let them in
//	relay     this host as a relay
//	punch     direct connections in place of relayed ones
//	line      streams of clients of the API, who are no peers
//	mdns, dht finding others nearby, and in a directory that all keep together
//	plain     errors of the library, in words of whoever runs the node
//	limits    every bound there is, with its reason
//
// # Goroutines
//
// A Host owns all of these; Close ends their context and waits for them.
//
//	keepDoor      one      sends strangers away
//	watchReach    one      hears whether others reach this host, if it listens beyond this machine
//	keepRelays    one      likewise, has relays let others in
//	keepPunching  one      likewise, tries for direct connections
//	retire        per relayed connection that a direct one took the place of
//	Announce      one, if it is on: stops the announcements; at most 8 calls of found
//	StartDirectory one, if it is on: ends the directory
//	closing       per connection that is refused, or whose stranger is sent away
//	supersede     per older connection of a peer that came again: asks whether it is alive
//	lines.handle  per stream of a client, made by the library, until it is accepted
//	hub.handle    per stream of a relay, made by the library; two more for what it carries
//
// The library has its own until the host is closed.
package host
