// Package gossip tells what a node says in a topic to all who follow it, soon and
// likely, and to nobody who does not know the secret that the topic is under.
//
// It hides the library that does so, gossipsub of libp2p: the shape of its meshes, how
// it scores peers, what bounds it, and how messages are sealed. It knows nothing of what
// is said: who joined a topic judges each message, and so decides whether it goes on to others.
//
// Nothing may depend on a message to arrive. What is dropped here is told (Ties.Lost);
// what is dropped elsewhere is not.
//
// # Where to look
//
//	gossip   the whole: Config, Ties, New, Start
//	topic    Join, Listen, Publish, Leave; Channel, the seal
//	mesh     who is a neighbour, and how peers are scored
//	carried  what the library tells of: bytes, losses, followers
//	bound    what peers say they follow
//	limits   every bound there is, with its reason
//
// The library has goroutines until the context of Start ends. There are no others.
package gossip
