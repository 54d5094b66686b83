package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
)

const (
	// writePace is between two writes: fine enough to measure a gap by, and slow
	// enough to leave the machine to what is measured. There are more transactions
	// of the other ways than one writer's, and each takes longer.
	writePace, transactionPace = 5 * time.Millisecond, 20 * time.Millisecond
	// writeTimeout is above the 10 s for which the gateway holds a client.
	writeTimeout = 15 * time.Second
	// ackPoll is how often a writer's acknowledged writes are looked at.
	ackPoll = 5 * time.Millisecond
	// retryPause keeps a writer that is refused at once from spinning.
	retryPause = 5 * time.Millisecond
)

// Ack is a write that was acknowledged.
type Ack struct {
	ID int64
	At time.Time
}

// Way is how a Writer writes.
type Way string

// The ways of the driver.
const (
	// AutoCommit is one statement that is its own transaction.
	AutoCommit Way = "auto-commit"
	// Unmanaged is a transaction that the application begins and commits.
	Unmanaged Way = "unmanaged"
	// Managed is one that the driver runs, and runs again if it is told to.
	Managed Way = "managed"
)

// Writer creates one node after the other through one gateway. It repeats no write
// itself, as an application without any thought of failovers would not.
type Writer struct {
	name   string
	addr   string // of its gateway
	way    Way
	mark   string // of its nodes, unlike any other writer's
	driver neo4j.DriverWithContext
	stop   context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	acks   []Ack
	errors map[string]int
}

// NewWriter starts writing through the gateway at addr until Stop, in auto-commit
// transactions. The name is for people.
func NewWriter(ctx context.Context, name, addr string) (*Writer, error) {
	return newWriter(ctx, name, addr, AutoCommit)
}

func newWriter(ctx context.Context, name, addr string, way Way) (*Writer, error) {
	driver, err := neo4j.NewDriverWithContext("bolt://"+addr, neo4j.NoAuth(), func(c *config.Config) {
		c.MaxConnectionPoolSize = 1
		c.SocketConnectTimeout = time.Second
	})
	if err != nil {
		return nil, fmt.Errorf("make driver: %w", err)
	}
	w := &Writer{name: name, addr: addr, way: way, mark: rand.Text(), driver: driver, errors: map[string]int{}}
	ctx, w.stop = context.WithCancel(ctx)
	w.done.Go(func() { w.run(ctx) })
	return w, nil
}

// Name is the writer's.
func (w *Writer) Name() string { return w.name }

// Stop ends the writing; the last write is acknowledged or cut off.
func (w *Writer) Stop() {
	w.stop()
	w.done.Wait()
}

func (w *Writer) run(ctx context.Context) {
	defer func() { _ = w.driver.Close(context.WithoutCancel(ctx)) }()
	pace := writePace
	if w.way != AutoCommit {
		pace = transactionPace
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for id := int64(0); ; id++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := w.write(ctx, id)
		if ctx.Err() != nil {
			return // cut off by Stop: neither acknowledged nor refused
		}
		w.note(id, err)
		if err != nil && Pause(ctx, retryPause) != nil {
			return
		}
	}
}

func (w *Writer) write(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	session := w.driver.NewSession(ctx, neo4j.SessionConfig{})
	defer func() { _ = session.Close(ctx) }() // what it may say, the write has said
	create := func(in interface {
		Run(context.Context, string, map[string]any) (neo4j.ResultWithContext, error)
	}) error {
		result, err := in.Run(ctx, "CREATE (:Write {writer: $writer, id: $id})", map[string]any{"writer": w.mark, "id": id})
		if err != nil {
			return err
		}
		_, err = result.Consume(ctx)
		return err
	}
	switch w.way {
	case Managed:
		_, err := session.ExecuteWrite(ctx, func(tx neo4j.ManagedTransaction) (any, error) { return nil, create(tx) })
		return err
	case Unmanaged:
		tx, err := session.BeginTransaction(ctx)
		if err != nil {
			return err
		}
		if err := create(tx); err != nil {
			return err // closing the session rolls back
		}
		return tx.Commit(ctx)
	}
	return create(autoCommit{session})
}

// autoCommit is a session that runs statements like a transaction does.
type autoCommit struct{ neo4j.SessionWithContext }

func (s autoCommit) Run(ctx context.Context, cypher string, params map[string]any) (neo4j.ResultWithContext, error) {
	return s.SessionWithContext.Run(ctx, cypher, params)
}

func (w *Writer) note(id int64, err error) {
	at := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.acks = append(w.acks, Ack{id, at})
		return
	}
	w.errors[describe(err)]++
}

// describe sorts errors: the server's by code and the first words of the text,
// broken connections as what they are.
func describe(err error) string {
	var db *neo4j.Neo4jError
	var lost *neo4j.ConnectivityError
	switch {
	case errors.As(err, &db):
		text, _, _ := strings.Cut(db.Msg, ".")
		return db.Code + ": " + text
	case errors.As(err, &lost), errors.Is(err, io.EOF):
		return "connection lost"
	}
	return err.Error()
}

// Acks are the acknowledged writes so far.
func (w *Writer) Acks() []Ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.acks)
}

// Errors counts the failed writes so far, by what was said.
func (w *Writer) Errors() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.errors)
}

// FirstAck waits for the first write that is acknowledged after t.
func (w *Writer) FirstAck(ctx context.Context, t time.Time) (time.Time, error) {
	for {
		acks := w.Acks()
		i, _ := slices.BinarySearchFunc(acks, t, func(a Ack, t time.Time) int { return a.At.Compare(t.Add(1)) })
		if i < len(acks) {
			return acks[i].At, nil
		}
		if err := Pause(ctx, ackPoll); err != nil {
			return time.Time{}, fmt.Errorf("wait for a write through %s: %w", w.name, err)
		}
	}
}

// Gap is the longest time without an acknowledged write that ended after since,
// or lasts until now.
func (w *Writer) Gap(since time.Time) Gap { return longestGap(w.Acks(), since, time.Now()) }

// Missing are the acknowledged writes that cannot be read at addr, a gateway's
// or a pod's. Of one that writes, the newest may be among them.
func (w *Writer) Missing(ctx context.Context, addr string) ([]Ack, error) {
	present, err := w.read(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("read the writes of %s: %w", w.name, err)
	}
	return missing(w.Acks(), present), nil
}

func (w *Writer) read(ctx context.Context, addr string) (map[int64]bool, error) {
	driver, err := neo4j.NewDriverWithContext("bolt://"+addr, neo4j.NoAuth())
	if err != nil {
		return nil, err
	}
	defer func() { _ = driver.Close(ctx) }()
	result, err := neo4j.ExecuteQuery(ctx, driver, "MATCH (n:Write {writer: $writer}) RETURN n.id AS id",
		map[string]any{"writer": w.mark}, neo4j.EagerResultTransformer)
	if err != nil {
		return nil, err
	}
	present := map[int64]bool{}
	for _, r := range result.Records {
		id, _, err := neo4j.GetRecordValue[int64](r, "id")
		if err != nil {
			return nil, err
		}
		present[id] = true
	}
	return present, nil
}
