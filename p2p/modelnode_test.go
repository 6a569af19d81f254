package p2p

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/internal/ident"
	"github.com/pandodb/pando/internal/kv"
)

// machine is one machine of a model: a database on a disk of its own, a clock of its
// own, and a node on the model's network.
type machine struct {
	t    *testing.T
	net  *modelNet
	at   int
	key  ic.PrivKey
	who  ident.Key
	skew atomic.Int64 // of its clock
	disk *modelDisk
	db   *pando.DB
	host host.Host
	node *Node
}

// modelKeys are costly, and what they are does not matter.
var modelKeys sync.Map

type modelKey struct {
	peer ic.PrivKey
	who  ident.Key
}

func modelKeyOf(t *testing.T, at int) modelKey {
	t.Helper()
	if k, ok := modelKeys.Load(at); ok {
		return k.(modelKey)
	}
	seed := rand.NewChaCha8([32]byte{byte(at), byte(at >> 8), 7})
	private, _, err := ic.GenerateEd25519Key(seed)
	if err != nil {
		t.Fatal(err)
	}
	who, err := ident.GenerateFrom(ident.EdDSA, seed)
	if err != nil {
		t.Fatal(err)
	}
	k := modelKey{private, who}
	modelKeys.Store(at, k)
	return k
}

func newMachine(t *testing.T, n *modelNet, at int) *machine {
	t.Helper()
	k := modelKeyOf(t, at)
	return &machine{t: t, net: n, at: at, key: k.peer, who: k.who, disk: newModelDisk(kv.NewCrashFS())}
}

func (m *machine) id() peer.ID {
	id, err := peer.IDFromPrivateKey(m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	return id
}

func (m *machine) name() string { return string(rune('a' + m.at)) }
func (m *machine) door() string { return fmt.Sprintf("/ip4/1.2.%d.%d/tcp/8000", m.at>>8, m.at&255) }
func (m *machine) addr() string { return m.door() + "/p2p/" + m.id().String() }

// now is the machine's clock.
func (m *machine) now() time.Time { return time.Now().Add(time.Duration(m.skew.Load())) }

// boot opens the database.
func (m *machine) boot() {
	m.t.Helper()
	db, err := pando.Open(kv.On(m.t.Context(), m.disk), "", &pando.Options{
		Identity: m.who, CacheBytes: 1 << 20, Now: m.now})
	if err != nil {
		m.t.Fatalf("%s does not boot: %v", m.name(), err)
	}
	m.db = db
}

// join makes the machine a node that trusts others.
func (m *machine) join(trusted ...*machine) {
	m.t.Helper()
	h, err := m.newHost()
	if err != nil {
		m.t.Fatal(err)
	}
	m.host = h
	c := Config{Host: h, Certificates: [][]byte{m.certificate()}}
	for _, p := range trusted {
		if p != m {
			c.Peers = append(c.Peers, p.addr())
		}
	}
	if os.Getenv("PANDO_LOG") != "" {
		c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", m.name())
	}
	if m.node, err = Start(m.t.Context(), m.db, c); err != nil {
		m.t.Fatalf("%s does not start: %v", m.name(), err)
	}
}

func (m *machine) newHost() (host.Host, error) {
	id := m.id()
	book, err := pstoremem.NewPeerstore()
	if err != nil {
		return nil, err
	}
	if err := book.AddPrivKey(id, m.key); err != nil {
		return nil, err
	}
	if err := book.AddPubKey(id, m.key.GetPublic()); err != nil {
		return nil, err
	}
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, book, bus, swarm.WithResourceManager(&network.NullResourceManager{}))
	if err != nil {
		return nil, err
	}
	h, err := basichost.NewHost(sw, &basichost.HostOpts{EventBus: bus, UserAgent: "pando"})
	if err != nil {
		return nil, err
	}
	door, err := newModelDoor(m.net, m.at, m.key)
	if err != nil {
		return nil, err
	}
	if err := sw.AddTransport(door); err != nil {
		return nil, err
	}
	if err := sw.Listen(ma.StringCast(m.door())); err != nil {
		return nil, err
	}
	h.Start()
	return h, nil
}

// leave ends the node and the host; the database stays open.
func (m *machine) leave() {
	if m.node != nil {
		m.node.Close()
		m.node = nil
	}
	if m.host != nil {
		m.host.Close()
		m.host = nil
	}
}

// shut ends everything in good order.
func (m *machine) shut() error {
	m.leave()
	if m.db == nil {
		return nil
	}
	err := m.db.Close()
	m.db = nil
	return err
}

// lose cuts the power: nobody is told, and of the disk only what was synced is left,
// or all.
func (m *machine) lose(generous bool) {
	left := m.disk.crash(generous)
	m.net.vanish(m.at)
	m.shut() // writes to a disk that is no more
	m.disk = left
}

// modelDisk is a disk that fills up, takes its time, and can lose power.
type modelDisk struct {
	kv.FS
	files *kv.CrashFS
	full  atomic.Bool
	low   atomic.Bool  // nearly full: the database writes nothing more
	slow  atomic.Int64 // how long a write takes to reach the log. Not under virtual time: locks are held meanwhile
}

func newModelDisk(files *kv.CrashFS) *modelDisk { return &modelDisk{FS: files, files: files} }

func (d *modelDisk) crash(generous bool) *modelDisk {
	seed := uint64(19) // of which nothing survives that was not synced
	if generous {
		seed = 1 // everything
	}
	return newModelDisk(d.files.Crash(seed))
}

func (d *modelDisk) GetDiskUsage(path string) (kv.DiskUsage, error) {
	if d.low.Load() {
		return kv.DiskUsage{AvailBytes: 1 << 20}, nil
	}
	return d.FS.GetDiskUsage(path)
}

func (d *modelDisk) Create(name string, c kv.WriteCategory) (kv.File, error) {
	if d.full.Load() {
		return nil, syscall.ENOSPC
	}
	f, err := d.FS.Create(name, c)
	return d.wrap(f, name, err)
}

func (d *modelDisk) ReuseForWrite(from, to string, c kv.WriteCategory) (kv.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return d.wrap(f, to, err)
}

func (d *modelDisk) wrap(f kv.File, name string, err error) (kv.File, error) {
	if err != nil {
		return nil, err
	}
	return &modelFile{f, d, strings.HasSuffix(name, ".log")}, nil
}

type modelFile struct {
	kv.File
	d   *modelDisk
	log bool
}

func (f *modelFile) Write(p []byte) (int, error) {
	if f.d.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *modelFile) delay() {
	if d := f.d.slow.Load(); f.log && d > 0 {
		time.Sleep(time.Duration(d))
	}
}

func (f *modelFile) Sync() error                  { f.delay(); return f.File.Sync() }
func (f *modelFile) SyncData() error              { f.delay(); return f.File.SyncData() }
func (f *modelFile) SyncTo(n int64) (bool, error) { f.delay(); return f.File.SyncTo(n) }
