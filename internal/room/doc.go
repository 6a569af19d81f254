// Package room carries what applications say to each other: messages in the rooms of
// collections, COLLECTION/ROOM, which everybody hears who listens at that moment, and
// nobody keeps.
//
// It hides how they are carried, over gossip and by members who are in no room
// themselves; how it is made sure who said what, once, and in which room; who is here;
// and that nobody, a member neither, makes others hear or remember more than they have room for.
// Nothing depends on what it does: who was not there did not hear it.
//
// # Where to look
//
//	rooms         the whole: Config, Members, New, Run; entering and leaving
//	publish       what is said here, in its turn
//	subscription  what is heard here, by those who listen
//	hear, flow    what comes is judged: read, new, and not too much
//	presence      who is here
//	carry         rooms between others
//	post, line    the bytes: docs/protocol.md, section 7.1
//	status, limits
//
// Run is the only goroutine, and whoever calls it waits for it.
package room
