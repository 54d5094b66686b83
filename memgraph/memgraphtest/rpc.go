package memgraphtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// method of a remote procedure call from MAIN to a replica, under Memgraph's
// names. The encoding is the stand-in's own.
type method string

const (
	swapMainUUID      method = "SwapMainUUID"
	systemRecovery    method = "SystemRecovery"
	frequentHeartbeat method = "FrequentHeartbeat"
	heartbeat         method = "Heartbeat"
	prepareCommit     method = "PrepareCommit"
	finalizeCommit    method = "FinalizeCommit"
	recoverSnapshot   method = "Snapshot"
	recoverLog        method = "WalFiles"
)

// timeouts of the calls, each for an answer to begin. Source: Memgraph v3.12
// rpc/client.hpp:52-71.
var timeouts = map[method]time.Duration{
	swapMainUUID:      10 * time.Second,
	systemRecovery:    30 * time.Second,
	frequentHeartbeat: 5 * time.Second,
	heartbeat:         10 * time.Second,
	prepareCommit:     30 * time.Second,
	finalizeCommit:    10 * time.Second,
	recoverSnapshot:   60 * time.Second,
	recoverLog:        30 * time.Second,
}

const (
	// connectTimeout is for TCP; same source.
	connectTimeout = 5 * time.Second
	// asyncLockWait is how long a commit waits for the connection of an ASYNC
	// replica. Source: kCommitRpcTimeout, Memgraph v3.12 replication_client.cpp.
	asyncLockWait = 50 * time.Millisecond
	// unacknowledged is how long a packet may be before the connection breaks,
	// from 3.10 on. Source: Memgraph v3.10 release notes, TCP_USER_TIMEOUT; a
	// commit to a black hole took 5.4 s on 3.12.0 and 30.0 s on 3.7.2 (observed).
	unacknowledged = 5 * time.Second
	// probeTimeout is what a dial may take that tells a black hole from a process
	// that hangs, whose kernel accepts at once.
	probeTimeout = 400 * time.Millisecond
)

// request is what MAIN sends. Fields that a method has no use for are zero.
type request struct {
	method   method
	main     string // main_uuid of the sender
	database string
	epoch    string
	previous int64 // MAIN's last durable timestamp before this commit
	ts       int64
	twoPhase bool // of prepareCommit: wait for finalizeCommit
	commit   bool // of finalizeCommit: the decision
	payload  [][]byte
}

func (r request) pack() []byte {
	payload := make([]any, len(r.payload))
	for i, b := range r.payload {
		payload[i] = b
	}
	return pack([]any{string(r.method), r.main, r.database, r.epoch, r.previous, r.ts, r.twoPhase, r.commit, payload})
}

func unpackRequest(b []byte) (request, error) {
	list, err := unpack(b, 9)
	if err != nil {
		return request{}, err
	}
	var r request
	name, _ := list[0].(string)
	r.method = method(name)
	r.main, _ = list[1].(string)
	r.database, _ = list[2].(string)
	r.epoch, _ = list[3].(string)
	r.previous, _ = list[4].(int64)
	r.ts, _ = list[5].(int64)
	r.twoPhase, _ = list[6].(bool)
	r.commit, _ = list[7].(bool)
	payload, _ := list[8].([]any)
	for _, v := range payload {
		b, _ := v.([]byte)
		r.payload = append(r.payload, b)
	}
	return r, nil
}

// answer is what the replica says.
type answer struct {
	ok    bool
	ldt   int64
	epoch string // in which ldt was reached
}

func (a answer) pack() []byte { return pack([]any{a.ok, a.ldt, a.epoch}) }

func unpackAnswer(b []byte) (answer, error) {
	list, err := unpack(b, 3)
	if err != nil {
		return answer{}, err
	}
	var a answer
	a.ok, _ = list[0].(bool)
	a.ldt, _ = list[1].(int64)
	a.epoch, _ = list[2].(string)
	return a, nil
}

// What a call can come to besides an answer.
var (
	errConnect = errors.New("cannot connect to the replica")
	errTimeout = errors.New("no answer within the time-out")
	errBroken  = errors.New("connection broke")
)

// link is MAIN's connection to one replica. Whoever holds its turn may call.
type link struct {
	addr    string
	network *network
	scale   float64         // of all time-outs
	life    context.Context // ends every call
	turn    chan struct{}
	// noticesLoss says that packets which nobody acknowledges break the connection.
	noticesLoss bool
	conn        net.Conn // nil if there is none; by turn, as all below
	reader      *bufio.Reader
	release     func() bool // of the watch over life
}

// newLink does not connect: the first call does.
func newLink(life context.Context, r *replication, addr string) *link {
	return &link{
		addr: addr, network: r.network, scale: r.scale, life: life, turn: make(chan struct{}, 1),
		noticesLoss: r.version.atLeast(3, 10),
	}
}

// take waits for the turn, at most d unless it is 0.
func (l *link) take(d time.Duration) bool {
	var expired <-chan time.Time
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case l.turn <- struct{}{}:
		return true
	case <-expired:
	case <-l.life.Done():
	}
	return false
}

// give lets the next one have the turn.
func (l *link) give() { <-l.turn }

// connect returns nil at once if there is a connection.
func (l *link) connect() error {
	if l.conn != nil {
		return nil
	}
	l.network.awake(l.life)
	ctx, cancel := context.WithTimeout(l.life, l.scaled(connectTimeout))
	defer cancel()
	conn, err := l.network.dial(ctx, l.addr)
	if err != nil {
		return fmt.Errorf("%w: %w", errConnect, err)
	}
	l.conn, l.reader = conn, bufio.NewReader(conn)
	l.release = context.AfterFunc(l.life, func() { _ = conn.Close() })
	return nil
}

// drop closes the connection; the next call dials again, and so resolves the
// name anew.
func (l *link) drop() {
	if l.conn != nil {
		l.release()
		_ = l.conn.Close() // it is of no use any more
		l.conn = nil
	}
}

// call connects, sends and waits for the answer. After an error the connection
// is dropped.
func (l *link) call(r request) (answer, error) {
	if err := l.connect(); err != nil {
		return answer{}, err
	}
	a, err := l.exchange(r)
	if err != nil {
		l.drop()
	}
	return a, err
}

// exchange sends a request on the open connection and reads the answer.
func (l *link) exchange(r request) (answer, error) {
	l.network.awake(l.life)
	err := l.transmit(appendFrame(nil, r.pack()), time.Now().Add(l.scaled(timeouts[r.method])))
	var b []byte
	if err == nil {
		b, err = readFrame(l.reader)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return answer{}, errTimeout
	case err != nil:
		return answer{}, fmt.Errorf("%w: %w", errBroken, err)
	}
	return unpackAnswer(b)
}

var errLost = errors.New("nobody acknowledges what was sent")

// transmit sends a call, and watches for the loss of its packets until an answer
// begins. Our black holes are made by processes, for which the kernel
// acknowledges everything: a dial tells what is one.
func (l *link) transmit(b []byte, deadline time.Time) error {
	first := time.Now().Add(l.scaled(unacknowledged))
	watched := l.noticesLoss && first.Before(deadline)
	if !watched {
		first = deadline
	}
	if err := l.conn.SetDeadline(first); err != nil {
		return err
	}
	n, err := l.conn.Write(b)
	if err == nil && watched {
		_, err = l.reader.Peek(1)
	}
	if !watched || !errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.Join(err, l.conn.SetDeadline(deadline))
	}
	if l.isLost() {
		return errLost
	}
	if err := l.conn.SetDeadline(deadline); err != nil {
		return err
	}
	_, err = l.conn.Write(b[n:])
	return err
}

// isLost reports whether packets to the replica go unanswered.
func (l *link) isLost() bool {
	ctx, cancel := context.WithTimeout(l.life, probeTimeout)
	defer cancel()
	c, err := l.network.dial(ctx, l.addr)
	if err == nil {
		_ = c.Close() // it was a question
		return false
	}
	return isTimeout(err)
}

// isTimeout reports whether a deadline passed, of a context or of a connection.
func isTimeout(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}

// scaled is a time-out as the configuration wants it.
func (l *link) scaled(d time.Duration) time.Duration { return scaled(d, l.scale) }

func scaled(d time.Duration, factor float64) time.Duration {
	return time.Duration(float64(d) * factor)
}

// turnCall is call in a turn of its own, for which it waits.
func (l *link) turnCall(r request) (answer, error) {
	if !l.take(0) {
		return answer{}, errBroken
	}
	defer l.give()
	return l.call(r)
}
