package memgraph

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"

	"memgraph-controller/memgraph/bolt"
)

const (
	// loginTimeout is when a login is given up. Memgraph checks one password at a time,
	// 0.2 s each, and does so for who has left too: whoever gives up and comes again
	// only makes the queue longer, and is at its end (observed on 3.7.2 and 3.12.0).
	loginTimeout = 30 * time.Second
	// lateAnswer is when an answer is given up that nobody waits for any more, and its
	// session with it: in a storm of logins one takes a second (observed on 3.12.0), and
	// another session a login. Who has not shaken hands by then is not in the queue.
	lateAnswer = 2 * time.Second
)

// patience is for how long the answer to a question is awaited that was put on behalf of
// ctx: as long as that lasts, and else for the sake of the connection, while life does.
func patience(ctx, life context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(lateAnswer)
	if asked, bounded := ctx.Deadline(); bounded && asked.After(end) {
		end = asked
	}
	return context.WithDeadline(life, end)
}

// errForgotten is of who finds out only now.
var errForgotten = fmt.Errorf("%w: forgotten meanwhile", ErrUnreachable)

// line is the sessions with one instance. They are logged in on behalf of nobody in
// particular, so that no caller's deadline takes a login out of the queue.
type line struct {
	addr   string
	rules  *tls.Config
	driver neo4j.DriverWithContext
	idle   chan struct{} // one for each session that is logged in, and not in use

	life    context.Context // of what goes on without a caller
	end     context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sessions int    // that are logged in
	entry    *login // the one under way; nil if none is
	room     *login // is done when a session has broken
	closed   bool
}

// login is an attempt; err is what it came to, once done is closed.
type login struct {
	done chan struct{}
	err  error
}

// newLine is of a driver, which it closes. It outlives ctx.
func newLine(ctx context.Context, addr string, rules *tls.Config, d neo4j.DriverWithContext) *line {
	l := &line{addr: addr, rules: rules, driver: d, idle: make(chan struct{}, maxSessions), room: &login{done: make(chan struct{})}}
	l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
	return l
}

// close ends what is under way, and the sessions.
func (l *line) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.end()
	err := l.driver.Close(ctx)
	l.running.Wait()
	return err
}

// enter takes a session that is logged in, and waits for one until ctx ends. It reads the
// clock, and so knows of a pause of this process before any timer does.
func (l *line) enter(ctx context.Context) error {
	for !over(ctx) {
		select {
		case <-l.idle:
			return l.inTime(ctx)
		default:
		}
		entry, err := l.login()
		if err != nil {
			return err
		}
		select {
		case <-l.idle:
			return l.inTime(ctx)
		case <-entry.done:
			if entry.err != nil {
				return entry.err
			}
		case <-ctx.Done():
		}
	}
	return cmp.Or(context.Cause(ctx), context.DeadlineExceeded)
}

// inTime gives the session that was taken back if ctx is over.
func (l *line) inTime(ctx context.Context) error {
	if !over(ctx) {
		return nil
	}
	l.leave(nil)
	return context.DeadlineExceeded
}

func over(ctx context.Context) bool {
	end, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(end)
}

// login is the attempt under way, or a new one if there is room for another session. Else
// it is done once there is.
func (l *line) login() (*login, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errForgotten
	case l.entry != nil:
		return l.entry, nil
	case l.sessions >= maxSessions:
		return l.room, nil
	}
	entry := &login{done: make(chan struct{})}
	l.entry = entry
	l.running.Go(func() {
		ctx, cancel := context.WithTimeout(l.life, loginTimeout)
		defer cancel()
		if entry.err = knock(ctx, l.addr, l.rules); entry.err == nil {
			entry.err = l.driver.VerifyConnectivity(ctx)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.entry = nil
		if entry.err == nil {
			l.sessions++
			l.idle <- struct{}{}
		}
		close(entry.done)
	})
	return entry, nil
}

// knock returns nil if there is somebody at addr to wait for.
func knock(ctx context.Context, addr string, rules *tls.Config) error {
	conn, err := dial(ctx, addr, rules)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(ctx, lateAnswer)
	defer cancel()
	defer bound(ctx, conn)()
	if _, err := conn.Write(bolt.Propose(bolt.Versions...).Append(nil)); err != nil {
		return err
	}
	_, err = bolt.ReadVersion(conn)
	return err
}

// leave gives a session back, unless it broke.
func (l *line) leave(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var answered *neo4j.Neo4jError
	if err == nil || errors.As(err, &answered) {
		l.idle <- struct{}{}
		return
	}
	l.sessions--
	close(l.room.done)
	l.room = &login{done: make(chan struct{})}
}

// exec sends a statement and takes its answer, until ctx ends.
func (l *line) exec(ctx context.Context, statement string) error {
	if err := l.enter(ctx); err != nil {
		return err
	}
	_, err := l.exchange(ctx, statement)
	return err
}

// question is exec of a statement that changes nothing, whose session is kept for the
// next one if the answer comes after ctx has ended.
func (l *line) question(ctx context.Context, statement string) ([]row, error) {
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	type answer struct {
		rows []row
		err  error
	}
	answers := make(chan answer, 1)
	err := l.start(func() {
		patient, cancel := patience(ctx, l.life)
		defer cancel()
		rows, err := l.exchange(patient, statement)
		answers <- answer{rows, err}
	})
	if err != nil {
		return nil, err
	}
	select {
	case a := <-answers:
		return a.rows, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// start has f go on without its caller, until the line is closed.
func (l *line) start(f func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errForgotten
	}
	l.running.Go(f)
	return nil
}

// exchange is made in the session that was entered, which it leaves.
func (l *line) exchange(ctx context.Context, statement string) (rows []row, err error) {
	defer func() { l.leave(err) }()
	session := l.driver.NewSession(ctx, neo4j.SessionConfig{AccessMode: neo4j.AccessModeWrite})
	rows, err = collect(ctx, session, statement)
	if closed := session.Close(ctx); err == nil {
		err = closed
	}
	return rows, err
}

func collect(ctx context.Context, session neo4j.SessionWithContext, statement string) ([]row, error) {
	result, err := session.Run(ctx, statement, nil)
	if err != nil {
		return nil, err
	}
	records, err := result.Collect(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]row, 0, len(records))
	for _, r := range records {
		rows = append(rows, r.AsMap())
	}
	return rows, nil
}
