package memgraph

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"

	"memgraph-controller/memgraph/bolt"
)

const (
	// UserAgent is how our sessions call themselves.
	UserAgent = "memgraph-controller"
	// dialTimeout bounds one dial: within a cluster an answer takes less than a
	// millisecond, and whoever takes longer is asked again.
	dialTimeout = time.Second
	// maxSessions bounds the connections to one instance. Two lanes and a
	// status sample need three; every login costs the server 0.2 s.
	maxSessions = 4
	// busyPause is the wait before a statement that found a lock held is sent
	// again; it doubles up to maxBusyPause. Locks are held for one commit.
	busyPause    = 5 * time.Millisecond
	maxBusyPause = 40 * time.Millisecond
)

// Client administers the instances of a cluster over the Neo4j driver. Every
// method takes at most its context's deadline, and returns ErrUnreachable,
// ErrUnauthenticated or the errors it names. Addresses are host:port of Bolt.
// It is safe for concurrent use.
type Client struct {
	login bolt.Login
	rules *tls.Config

	mu     sync.Mutex
	lines  map[string]*line // by address
	closed bool
}

// NewClient logs in by login everywhere; without a user it sends none. Its connections
// are secured by rules (see TLS), and plain if that is nil. Close it to end them.
func NewClient(login bolt.Login, rules *tls.Config) *Client {
	return &Client{login: login, rules: rules, lines: map[string]*line{}}
}

// Role is the instance's present role. It answers while commits are blocked.
func (c *Client) Role(ctx context.Context, addr string) (Role, error) {
	return ask(ctx, c, addr, showRole, parseRole)
}

// Promote makes the instance a MAIN without replicas; one that already is
// counts as done. While the instance applies a transaction it is repeated until
// ctx ends and then ErrBusy. Else it takes 3 ms, or up to 200 where nudging
// fails. Source: Memgraph v3.12 replication_handler.cpp:262-331.
func (c *Client) Promote(ctx context.Context, addr string) error {
	return wrap("promote", addr, c.setRole(ctx, addr, RoleMain, func() error {
		return nudged(ctx, addr, func() error { return c.exec(ctx, addr, setMain) })
	}))
}

// Demote makes the instance a replica that belongs to nobody and listens on
// ReplicationPort; one that already is a replica counts as done. Open write
// transactions fail at their commit, sessions stay open. While a commit holds
// the lock it is repeated until ctx ends and then ErrBusy. Source: Memgraph
// v3.12 replication_handler.cpp:253-260.
func (c *Client) Demote(ctx context.Context, addr string) error {
	return wrap("demote", addr, c.setRole(ctx, addr, RoleReplica, func() error {
		return c.exec(ctx, addr, setReplica(ReplicationPort))
	}))
}

// setRole reads before it writes and again after each failure (invariant 2).
func (c *Client) setRole(ctx context.Context, addr string, want Role, set func() error) error {
	is, err := c.Role(ctx, addr)
	if err != nil || is == want {
		return err
	}
	return whileBusy(ctx, func() error {
		failed := set()
		if failed == nil {
			return nil
		}
		if is, err := c.Role(ctx, addr); err == nil && is == want {
			return nil
		}
		return failed
	})
}

// Replicas lists what MAIN has registered, in the order of registration, or
// returns ErrNotMain. It answers from memory while commits are blocked.
func (c *Client) Replicas(ctx context.Context, main string) ([]Replica, error) {
	return ask(ctx, c, main, showReplicas, parseReplicas)
}

// Register makes the instance at r.Address a replica of main, taking it from
// any other MAIN; the same registration counts as done. Success does not mean
// that the replica is in step: see Replicas. It returns ErrDiverged and
// ErrNotAccepted (both leave a ghost to Drop), ErrNameTaken, ErrAddressTaken,
// ErrNotMain, or ErrBusy when ctx ends first.
//
// Towards a target that does not answer it blocks MAIN, its commits and its
// SHOW statements, for up to 10 s: ask the target itself first. Source:
// Memgraph v3.12 replication_handler.hpp:239-349; observed on 3.12.0.
func (c *Client) Register(ctx context.Context, main string, r Registration) error {
	err := whileBusy(ctx, func() error {
		err := c.exec(ctx, main, register(r))
		if !errors.Is(err, ErrNameTaken) && !errors.Is(err, ErrUnreachable) {
			return err
		}
		if c.registered(ctx, main, r) {
			return nil
		}
		return err
	})
	return wrap("register "+r.Name+" on", main, err)
}

func (c *Client) registered(ctx context.Context, main string, r Registration) bool {
	replicas, err := c.Replicas(ctx, main)
	return err == nil && slices.ContainsFunc(replicas, func(x Replica) bool {
		return x.Name == r.Name && x.Address == r.Address && x.Mode == r.Mode && !x.Ghost()
	})
}

// Drop unregisters a replica; one that is not registered counts as done.
// Never drop a replica whose process lives and is silent or recovering: MAIN
// freezes or dies (observed on 3.7.2 and 3.12.0). It returns ErrNotMain, or
// ErrBusy when ctx ends while a commit holds the lock.
func (c *Client) Drop(ctx context.Context, main, name string) error {
	err := whileBusy(ctx, func() error { return c.exec(ctx, main, drop(name)) })
	if errors.Is(err, ErrNotRegistered) {
		// The same text says that the removal was not persisted.
		replicas, listed := c.Replicas(ctx, main)
		if listed == nil && !slices.ContainsFunc(replicas, func(r Replica) bool { return r.Name == name }) {
			err = nil
		}
	}
	return wrap("drop "+name+" on", main, err)
}

// SealEpoch makes a promoted MAIN's new epoch durable by one commit that leaves
// nothing behind. Without it a MAIN that restarts before its first commit is
// back in the old epoch, and cannot tell a diverged peer. Source: observed on
// 3.7.2 and 3.12.0.
//
// A MAIN with a synchronous replica counts as done even if that does not confirm:
// who registers replicas has sealed the epoch first.
func (c *Client) SealEpoch(ctx context.Context, main string) error {
	err := c.exec(ctx, main, sealEpoch)
	if errors.Is(err, ErrNotConfirmed) {
		err = nil
	}
	return wrap("seal epoch of", main, err)
}

// StorageInfo tells how much data the instance holds, and whose it is.
func (c *Client) StorageInfo(ctx context.Context, addr string) (StorageInfo, error) {
	for _, statement := range []string{showStorage, showDatabase} {
		rows, err := c.question(ctx, addr, statement)
		if err != nil {
			return StorageInfo{}, wrap("ask "+statement+" of", addr, err)
		}
		info, ok, err := parseStorage(rows)
		if ok || err != nil {
			return info, wrap("read "+statement+" of", addr, err)
		}
	}
	return StorageInfo{}, fmt.Errorf("read storage info of %s: no vertex_count in it", addr)
}

// Version is the server's.
func (c *Client) Version(ctx context.Context, addr string) (Version, error) {
	return ask(ctx, c, addr, showVersion, parseVersion)
}

// Forget ends the connections to addr: what listened there is gone.
func (c *Client) Forget(ctx context.Context, addr string) error {
	c.mu.Lock()
	l := c.lines[addr]
	delete(c.lines, addr)
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.close(ctx)
}

// Close ends all connections, and the client.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	c.closed = true
	lines := slices.Collect(maps.Values(c.lines))
	c.lines = nil
	c.mu.Unlock()
	var errs []error
	for _, l := range lines {
		errs = append(errs, l.close(ctx))
	}
	return errors.Join(errs...)
}

// ask puts a question and reads its answer. A question changes nothing: one that is not
// answered in time may still be.
func ask[T any](ctx context.Context, c *Client, addr, question string, parse func([]row) (T, error)) (T, error) {
	var none T
	rows, err := c.question(ctx, addr, question)
	if err != nil {
		return none, wrap("ask "+question+" of", addr, err)
	}
	v, err := parse(rows)
	return v, wrap("read "+question+" of", addr, err)
}

func (c *Client) question(ctx context.Context, addr, question string) ([]row, error) {
	l, err := c.line(ctx, addr)
	if err != nil {
		return nil, err
	}
	rows, err := l.question(ctx, question)
	return rows, c.outcome(ctx, addr, err)
}

// exec sends a statement in auto-commit and takes its whole answer (invariant 1). Who
// may have lost the right to send it meanwhile must not: it is sent before ctx ends, or
// not at all.
func (c *Client) exec(ctx context.Context, addr, statement string) error {
	l, err := c.line(ctx, addr)
	if err != nil {
		return err
	}
	return c.outcome(ctx, addr, l.exec(ctx, statement))
}

// outcome is what an error comes to. A driver never logs in as anybody else: where it was
// refused, the next statement has another.
func (c *Client) outcome(ctx context.Context, addr string, err error) error {
	err = classify(ctx, err)
	if errors.Is(err, ErrUnauthenticated) {
		_ = c.Forget(ctx, addr)
	}
	return err
}

func (c *Client) line(ctx context.Context, addr string) (*line, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("client of %s: closed", addr)
	}
	if l, ok := c.lines[addr]; ok {
		return l, nil
	}
	token := neo4j.NoAuth()
	if auth := c.login.Auth(); auth.User != "" {
		token = neo4j.BasicAuth(auth.User, auth.Password, "")
	}
	scheme := "bolt"
	if c.rules != nil {
		scheme = "bolt+ssc" // which leaves it to the rules whom to trust
	}
	d, err := neo4j.NewDriverWithContext(scheme+"://"+addr, token, c.configure)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", addr, err)
	}
	l := newLine(ctx, addr, c.rules, d)
	c.lines[addr] = l
	return l, nil
}

func (c *Client) configure(cfg *config.Config) {
	cfg.TlsConfig = c.rules
	cfg.UserAgent = UserAgent
	cfg.SocketConnectTimeout = dialTimeout
	cfg.ConnectionAcquisitionTimeout = loginTimeout
	cfg.MaxConnectionPoolSize = maxSessions
	// A pod that restarted left broken connections in the pool: test each one
	// before use, or the first statement after a restart is lost.
	cfg.ConnectionLivenessCheckTimeout = 0
	cfg.MaxTransactionRetryTime = 0 // we retry ourselves, where it is safe
}

// whileBusy repeats f until it answers something else than ErrBusy or ctx ends. An
// attempt that ctx cut off does not hide that the ones before found a lock, nor the
// other way round: what was cut off may go on at the server.
func whileBusy(ctx context.Context, f func() error) error {
	var busy error
	for pause := busyPause; ; pause = min(2*pause, maxBusyPause) {
		err := f()
		switch {
		case errors.Is(err, ErrBusy):
			busy = err
		case err != nil && ctx.Err() != nil:
			return errors.Join(busy, err)
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return busy
		case <-time.After(pause):
		}
	}
}

func wrap(verb, addr string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, addr, err)
}
