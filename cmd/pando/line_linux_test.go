package main

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exchange joins hosts in network namespaces by lines of whatever quality: each
// host's only way out is a TUN device, and what it sends there comes out at
// another's after as long, as late, or as never as the line between them says. It
// does what `tc netem` and a router with NAT would do, on kernels that have
// neither.
type exchange struct {
	t      *testing.T
	random *rand.Rand

	mu    sync.Mutex // guards what follows
	ports map[netip.Addr]*port
	nats  map[netip.Addr]*nat // by public address
	line  quality             // of all lines
	late  queue
	sent  int // packets that were put on their way
	wake  chan struct{}
}

// quality is what a line does to packets, in each direction.
type quality struct {
	delay   time.Duration
	loss    float64 // share of packets
	reorder float64 // share that overtakes those before
	rate    int     // bits a second; 0: any
	cut     bool
}

// queueFor is how long packets may wait for their turn on a slow line: more are lost.
const queueFor = 400 * time.Millisecond

// port is where one host is plugged in.
type port struct {
	addr netip.Addr
	tun  *os.File
	nat  *nat      // that stands before it
	free time.Time // when the line is done with what it was given
}

func newExchange(t *testing.T, line quality) *exchange {
	x := &exchange{t: t, random: rand.New(rand.NewPCG(1, 2)), line: line, wake: make(chan struct{}, 1),
		ports: map[netip.Addr]*port{}, nats: map[netip.Addr]*nat{}}
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() { x.deliver(stop) })
	t.Cleanup(func() {
		close(stop)
		done.Wait()
	})
	return x
}

// plug connects a host at an address: a public one, or one behind a NAT.
func (x *exchange) plug(h *host, addr string, behind *nat) {
	x.t.Helper()
	tun := h.tun()
	p := &port{addr: netip.MustParseAddr(addr), tun: tun, nat: behind}
	ip(x.t, "-n", h.name, "link", "set", "eth", "up", "mtu", "1400")
	ip(x.t, "-n", h.name, "addr", "add", addr+"/32", "dev", "eth")
	ip(x.t, "-n", h.name, "route", "add", "default", "dev", "eth")
	x.mu.Lock()
	if behind == nil {
		x.ports[p.addr] = p
	} else {
		behind.inside = p
		x.nats[behind.public] = behind
	}
	x.mu.Unlock()
	var reader sync.WaitGroup
	reader.Go(func() { x.read(p) })
	x.t.Cleanup(func() {
		tun.Close()
		reader.Wait()
	})
}

// tun makes the host's device "eth".
func (h *host) tun() *os.File {
	h.t.Helper()
	type made struct {
		f   *os.File
		err error
	}
	out := make(chan made)
	go func() {
		// The thread is of another namespace from here on: it ends with the goroutine.
		runtime.LockOSThread()
		f, err := openTun(h.name)
		out <- made{f, err}
	}()
	m := <-out
	if m.err != nil {
		h.t.Skipf("needs TUN devices in network namespaces: %v", m.err)
	}
	return m.f
}

func openTun(namespace string) (*os.File, error) {
	ns, err := os.Open("/run/netns/" + namespace)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter network namespace: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq("eth")
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make a TUN device: %w", err)
	}
	return os.NewFile(uintptr(fd), "tun"), nil
}

// quality changes all lines.
func (x *exchange) quality(q quality) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.line = q
}

// carried is how many packets were put on their way.
func (x *exchange) carried() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sent
}

// read takes what a host sends until its device is closed.
func (x *exchange) read(from *port) {
	buf := make([]byte, 2048)
	for {
		n, err := from.tun.Read(buf)
		if err != nil {
			return
		}
		x.send(from, packet(append([]byte(nil), buf[:n]...)))
	}
}

// send decides what becomes of a packet.
func (x *exchange) send(from *port, p packet) {
	if !p.ok() {
		return // IPv6, fragments, and what nobody here speaks
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if from.nat != nil && !from.nat.leave(p) {
		return
	}
	to := x.ports[p.dst().Addr()]
	if n := x.nats[p.dst().Addr()]; n != nil && n.enter(p) {
		to = n.inside
	}
	q := x.line
	if to == nil || q.cut || x.random.Float64() < q.loss {
		return
	}
	now := time.Now()
	due := now.Add(q.delay)
	if q.rate > 0 {
		if from.free.Before(now) {
			from.free = now
		}
		if from.free.Sub(now) > queueFor {
			return
		}
		from.free = from.free.Add(time.Duration(len(p)*8) * time.Second / time.Duration(q.rate))
		due = from.free.Add(q.delay)
	}
	if x.random.Float64() < q.reorder {
		due = now
	}
	x.sent++
	heap.Push(&x.late, delayed{due, x.sent, p, to})
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// deliver hands packets over when they are due.
func (x *exchange) deliver(stop <-chan struct{}) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		x.mu.Lock()
		next := time.Hour
		for len(x.late) > 0 {
			if next = time.Until(x.late[0].at); next > 0 {
				break
			}
			d := heap.Pop(&x.late).(delayed)
			d.to.tun.Write(d.packet) // a host that is gone loses it
			next = time.Hour
		}
		x.mu.Unlock()
		timer.Reset(next)
		select {
		case <-stop:
			return
		case <-x.wake:
		case <-timer.C:
		}
	}
}

// delayed is a packet on its way.
type delayed struct {
	at     time.Time
	number int // of those due at the same time, the first goes first
	packet packet
	to     *port
}

type queue []delayed

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].number < q[j].number
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(d any)   { *q = append(*q, d.(delayed)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	d := (*q)[last]
	*q = (*q)[:last]
	return d
}
