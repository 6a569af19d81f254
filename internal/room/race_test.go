//go:build race

package room

func init() { raceDetector = true }
