package memgraphtest

import (
	"cmp"
	"context"
	"crypto/subtle"
	"sync/atomic"
	"time"
)

// authenticate checks what HELLO or LOGON brought. Without a user anybody may
// log in. Checking a password costs LoginTime, during which nobody else's is
// checked: Memgraph hashes under a lock (observed: 236 ms with bcrypt).
func (s *session) authenticate(auth map[string]any) bool {
	scheme, given := auth["scheme"].(string)
	if given && scheme != "none" && scheme != "basic" {
		return false
	}
	if s.cfg.User == "" {
		s.hash(s.faults.now().LoginTime)
		return true
	}
	user, _ := auth["principal"].(string)
	password, _ := auth["credentials"].(string)
	if scheme != "basic" || user != s.cfg.User {
		return false
	}
	s.hash(cmp.Or(s.faults.now().LoginTime, s.cfg.LoginTime))
	needed := cmp.Or(s.faults.now().Password, s.cfg.Password)
	return subtle.ConstantTimeCompare([]byte(password), []byte(needed)) == 1
}

// hash takes the time that checking a password takes.
func (s *session) hash(takes time.Duration) {
	if takes > 0 {
		s.desk.occupy(s.life, takes)
	}
}

// desk is the workers that obey clients. A login keeps one from its beginning to
// its end, one login is served at a time, and who comes is served in that order:
// so a storm of logins keeps sessions waiting that are open. Observed: with eight
// clients that log in over and over SHOW REPLICATION ROLE takes a second.
type desk struct {
	seats  chan struct{}
	logins atomic.Int32 // seated or waiting
	clerk  chan struct{}
}

func newDesk(workers int) *desk {
	return &desk{seats: make(chan struct{}, workers), clerk: make(chan struct{}, 1)}
}

// occupy takes a seat until the clerk has taken d.
func (d *desk) occupy(ctx context.Context, took time.Duration) {
	d.logins.Add(1)
	defer d.logins.Add(-1)
	if !enter(ctx, d.seats) {
		return
	}
	defer func() { <-d.seats }()
	if !enter(ctx, d.clerk) {
		return
	}
	defer func() { <-d.clerk }()
	sleep(ctx, took)
}

// visit waits for a seat while logins are about.
func (d *desk) visit(ctx context.Context) {
	if d.logins.Load() > 0 && enter(ctx, d.seats) {
		<-d.seats
	}
}

// enter takes a place; false if ctx ends first.
func enter(ctx context.Context, places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
