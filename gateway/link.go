package gateway

import (
	"context"
	"fmt"
	"time"

	"memgraph-controller/memgraph/bolt"
)

const (
	// roleQuery answers while commits block, and any user may ask it. Observed
	// on Memgraph 3.7.2 and 3.12.0.
	roleQuery = "SHOW REPLICATION ROLE"
	roleMain  = "main"
	// replicasQuery does so too.
	replicasQuery = "SHOW REPLICAS"
	// roleReplica is everybody else's.
	roleReplica = "replica"
	// giveUpAfter is for a login, and for an answer. On a MAIN with users each
	// login holds up everybody for 0.24 s, and when eight clients logged in at
	// once the role took 1.06 s: to give up sooner would be to queue for another
	// login. Observed on Memgraph 3.12.0.
	giveUpAfter = 2 * time.Second

	userAgent = "memgraph-controller-gateway/1"
)

// link is the gateway's own connection to the process at an address. It ends
// with the context that it was opened in.
type link struct {
	conn      *socket
	client    *bolt.Client
	confirmed bool // its process answered as the wanted MAIN, last time
	unbind    func() bool
	ended     chan struct{}
}

// answer is what a process says of itself.
type answer struct {
	role, runID string
	asked       time.Time
}

func openLink(ctx context.Context, addr string, cfg *Config) (*link, error) {
	dialling, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	conn, err := dial(dialling, addr, cfg.BackendTLS)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn}
	l.bind(ctx)
	if err = conn.SetDeadline(time.Now().Add(giveUpAfter)); err == nil {
		l.client, err = bolt.Open(conn, cfg.Login.Auth(), userAgent)
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("log in to %s: %w", addr, err)
	}
	return l, nil
}

// bind has the link end with ctx, and no longer with what it ended with before.
func (l *link) bind(ctx context.Context) {
	l.release()
	ended := make(chan struct{})
	l.ended = ended
	l.unbind = context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = l.conn.Close()
	})
}

func (l *link) release() {
	if l.unbind != nil && !l.unbind() {
		<-l.ended
	}
}

func (l *link) close() {
	l.release()
	_ = l.conn.Close()
}

// ask returns the process's role and run_id. The link is spent after any error.
func (l *link) ask() (answer, error) {
	asked := time.Now()
	res, err := l.run(roleQuery)
	if err != nil {
		return answer{}, fmt.Errorf("ask for the role: %w", err)
	}
	if len(res.Rows) != 1 || len(res.Rows[0]) != 1 {
		return answer{}, fmt.Errorf("ask for the role: answered %v", res.Rows)
	}
	role, _ := res.Rows[0][0].(string)
	return answer{role: role, runID: res.RunID(), asked: asked}, nil
}

func (l *link) run(query string) (bolt.Result, error) {
	if err := l.conn.SetDeadline(time.Now().Add(giveUpAfter)); err != nil {
		return bolt.Result{}, err
	}
	res, err := l.client.Run(query)
	if err != nil {
		return bolt.Result{}, err
	}
	return res, l.conn.SetDeadline(time.Time{})
}

// rest leaves the link alone for d, or until wake delivers an error, which it
// returns. An error says as well that the link broke, which it notices at once.
func (l *link) rest(d time.Duration, wake <-chan error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	watch := keepVigil(l.conn)
	var err error
	select {
	case <-timer.C:
	case <-watch.over:
	case err = <-wake:
	}
	unasked, broke := watch.end()
	switch {
	case broke != nil:
		return fmt.Errorf("control link: %w", broke)
	case len(unasked) > 0:
		return fmt.Errorf("control link: an answer that was not asked for: %#x", unasked)
	}
	return err
}
