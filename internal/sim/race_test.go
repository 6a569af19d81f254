//go:build race

package sim

// The race detector makes a history cost ten times as much.
const underRace = true
