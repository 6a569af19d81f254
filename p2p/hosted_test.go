package p2p

import (
	"time"

	"github.com/pandodb/pando/internal/host"
)

// What these tests hold package host to.
const (
	maxAtDoor           = 32
	streamsOfPeer       = 160
	connsPerAddr        = 128
	maxStrangerPlaces   = 64
	maxAskingOfStranger = 8
	limitedBytes        = 128 << 10
	limitedFor          = host.LimitedFor
	relaysWanted        = 2
	reserveFor          = time.Hour
)
