package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/pandodb/pando"
	"github.com/pandodb/pando/api"
	"github.com/pandodb/pando/internal/fault"
	"github.com/pandodb/pando/lens"
	"github.com/pandodb/pando/p2p"
	"github.com/spf13/cobra"
)

// shutdownGrace is how long requests that run may take to end before they are cut.
const shutdownGrace = 2 * time.Second

// startFlags are the settings of a node.
type startFlags struct {
	p2paddr []string
	peers   []string
	store   string
	noP2P   bool
	hosts   []string
	backups string
	closed  bool
	blind   bool
	allow   []string
	relay   bool
	natMap  bool
	noDHT   bool
	// noPeerAPI: the API is not for clients that come over libp2p
	noPeerAPI bool
	crypt     storeFlags
	claim     string
	open      bool
	who       identityFlag
}

func (c *command) startCommand() *cobra.Command {
	var s startFlags
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Run a node",
		Long: `Run a node on --rootdir, which is made if it does not exist. When the node is ready it
prints one line on standard output, and logs to standard error:

  ready http=http://127.0.0.1:9181 p2p=/ip4/127.0.0.1/tcp/9171/p2p/12D3KooW…[,…]

Port 0 takes a free port. An interrupt or SIGTERM ends the node cleanly.`,
		Example: `  pando start
  pando start --rootdir notes --p2paddr /ip4/0.0.0.0/tcp/9171,/ip4/0.0.0.0/udp/9171/quic-v1
  pando start --rootdir second --url 127.0.0.1:9182 --p2paddr /ip4/127.0.0.1/tcp/9172`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.start(cmd.Context(), s) },
	}
	f := cmd.Flags()
	f.StringSliceVar(&s.p2paddr, "p2paddr", p2p.DefaultListen, "addresses to listen on for peers, as multiaddrs")
	f.StringSliceVar(&s.peers, "peers", nil, "peers to connect to, as multiaddrs that end with /p2p/PEERID")
	f.StringVar(&s.store, "store", "pebble", "where documents are kept: pebble (in --rootdir) or memory")
	f.BoolVar(&s.noP2P, "no-p2p", false, "run without a network")
	f.StringSliceVar(&s.hosts, "allowed-hosts", nil, "names by which HTTP requests may call the node, besides localhost and IP addresses")
	f.StringVar(&s.backups, "backup-dir", "", "directory where HTTP clients may have backup files written and read")
	f.BoolVar(&s.closed, "closed", false, "let no strangers in: peers have to prove a join secret, or to be allowed if any are")
	f.StringSliceVar(&s.allow, "allow", nil, "peers that may connect, by peer id or did:key, beside those of peer allow; others may not")
	f.BoolVar(&s.blind, "blind", false, "of collections with a policy, take nothing but documents that are sealed: see hub")
	f.BoolVar(&s.relay, "relay", false, "carry connections between peers that cannot reach each other: without limit for members of this node's collections")
	f.BoolVar(&s.natMap, "nat-map", false, "ask the router to let peers in, by UPnP or NAT-PMP")
	f.BoolVar(&s.noDHT, "no-dht", false, "take no part in the directory in which members find each other")
	f.BoolVar(&s.noPeerAPI, "no-peer-api", false, "do not serve the API over libp2p, to clients that the node was told of")
	settings(f, "closed", "allow", "blind", "relay", "nat-map", "no-dht", "no-peer-api")
	f.StringVar(&s.claim, "claim", "", "who owns the node, if nobody does yet: a DID, a name in your keyring, or a key file; others have to be let in, see pando node")
	f.BoolVar(&s.open, "allow-unclaimed", false, "while nobody owns the node, let callers from other machines do everything")
	settings(f, "claim", "allow-unclaimed")
	s.crypt.add(cmd)
	s.who.add(f, "sign what is written here as this identity, and act for it towards peers")
	settings(f, "p2paddr", "peers", "store", "no-p2p", "allowed-hosts", "backup-dir")
	return cmd
}

func (c *command) start(ctx context.Context, s startFlags) (err error) {
	log, err := c.logger()
	if err != nil {
		return err
	}
	dir, err := c.directory(s.store)
	if err != nil {
		return err
	}
	network := p2p.Config{
		Listen: s.p2paddr, Peers: s.peers, Logger: log, Closed: s.closed, Allow: s.allow, Blind: s.blind, Relay: s.relay, NATMap: s.natMap,
		MDNS:     !onlyHere(s.p2paddr), // nobody nearby could reach a node that listens on this machine only
		Exchange: true,
		DHT:      !s.noDHT && !onlyHere(s.p2paddr),
	}
	// First, so that neither a mistake nor a busy port makes a directory.
	if err := s.check(log); err != nil {
		return err
	}
	key, err := s.crypt.key(ctx, c)
	if err != nil {
		return err
	}
	who, err := s.who.key(ctx, c)
	if err != nil {
		return err
	}
	var claimant pando.DID
	if s.claim != "" {
		if claimant, err = c.didOf(ctx, s.claim); err != nil {
			return fmt.Errorf("--claim: %w", err)
		}
	}
	c.ring = nil // the secrets in it that are not wanted
	listener, err := listen(ctx, c.url)
	if err != nil {
		return err
	}
	defer listener.Close()
	lenses := lens.New(lens.Options{})
	defer func() { err = errors.Join(err, lenses.Close()) }()
	db, err := pando.Open(ctx, dir, &pando.Options{Logger: log, Lenses: lenses, StoreKey: key, Identity: who})
	if err != nil {
		return c.inRootdir(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var node *p2p.Node
	addrs := "off"
	if !s.noP2P {
		if node, err = p2p.Start(ctx, db, network); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, node.Close()) }()
		addrs = strings.Join(fullAddrs(node), ",")
		stop, err := actFor(who, db, node, dir, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	access, err := openAccess(dir, claimant)
	if err != nil {
		return err
	}
	tellOwner(log, access, listener.Addr(), s.open)
	socket, err := listenInside(dir, log)
	if err != nil {
		return err
	}
	server := api.NewServer(api.Config{DB: db, Node: node, Logger: log, AllowedHosts: s.hosts, BackupDir: s.backups, Access: access, AllowUnclaimed: s.open})
	served, serving := make(chan error, 3), 1
	go func() { served <- server.Serve(listener) }()
	if node != nil && !s.noPeerAPI {
		serving++
		lines := node.Lines(server.Knows) // before anybody hears that the node is there
		go func() { served <- server.Serve(lines) }()
	}
	if socket != nil {
		serving++
		go func() { served <- server.ServeInside(socket) }()
	}
	fmt.Fprintf(c.out, "ready http=http://%s p2p=%s\n", listener.Addr(), addrs)
	debug.FreeOSMemory() // what opening took, an idle node would keep for minutes

	select {
	case err = <-served:
		serving--
	case <-ctx.Done():
	}
	log.Info("closing")
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	err = errors.Join(err, server.Shutdown(grace))
	for range serving {
		err = errors.Join(err, <-served)
	}
	return err
}

// check finds what is wrong with settings before anything is begun, and names the flag.
func (s *startFlags) check(log *slog.Logger) error {
	if len(s.p2paddr) == 0 && !s.noP2P {
		return fault.Invalid.Errorf("--p2paddr names no address: give one, or start with --no-p2p")
	}
	for _, one := range []struct {
		flag   string
		config p2p.Config
	}{
		{"--p2paddr", p2p.Config{Listen: s.p2paddr}},
		{"--peers", p2p.Config{Peers: s.peers}},
		{"--allow", p2p.Config{Allow: s.allow}},
	} {
		if err := one.config.Check(); err != nil {
			return fmt.Errorf("%s: %w", one.flag, err)
		}
	}
	for _, host := range s.hosts {
		if host == "" || strings.ContainsAny(host, "/ @?#") {
			return fault.Invalid.Errorf("--allowed-hosts %q: want the name of a host, such as node.example.org", host)
		}
	}
	if info, err := os.Stat(s.backups); s.backups != "" && err == nil && !info.IsDir() {
		return fault.Invalid.Errorf("--backup-dir %s is a file: name a directory", s.backups)
	} else if s.backups != "" && err != nil {
		log.Warn("the directory of --backup-dir is not there yet: make it", "directory", s.backups)
	}
	return nil
}

// inRootdir says of an error about the directory of the node which flag names it.
func (c *command) inRootdir(err error) error {
	return fmt.Errorf("--rootdir %s: %w", c.rootdir, err)
}

// directory returns where documents are kept, "" for memory.
func (c *command) directory(store string) (string, error) {
	switch store {
	case "pebble":
		return c.rootdir, nil
	case "memory":
		return "", nil
	}
	return "", fault.Invalid.Errorf("--store %q: want pebble or memory", store)
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fault.Unavailable.Errorf("address %s is in use, perhaps by another node: choose another with --url, or port 0 for any", address)
	case strings.HasPrefix(address, "/"):
		return nil, fault.Invalid.Errorf("--url %q: a node serves HTTP at HOST:PORT, such as %s; where it listens for peers says --p2paddr", address, api.DefaultAddress)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fault.Invalid.Errorf("--url %q: this machine has no such address: choose one of its own, such as %s, or 0.0.0.0:9181 for all", address, api.DefaultAddress)
	case errors.As(err, new(*net.DNSError)):
		return nil, fault.Invalid.Errorf("--url %q: the host is not known: choose an address of this machine, such as %s", address, api.DefaultAddress)
	case errors.Is(err, syscall.EACCES):
		return nil, fault.Denied.Errorf("address %s: this user may not listen there: choose a port above 1023 with --url", address)
	case err != nil:
		return nil, fault.Invalid.Errorf("--url %q: %w: want HOST:PORT, such as %s", address, err, api.DefaultAddress)
	}
	return l, nil
}

func fullAddrs(node *p2p.Node) []string {
	info := node.Info()
	var addrs []string
	for _, a := range info.Addrs {
		addrs = append(addrs, full(a, info.ID))
	}
	return addrs
}
