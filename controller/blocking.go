package controller

import (
	"errors"
	"maps"
	"sync"
	"time"

	"memgraph-controller/memgraph"
)

// blocking are the statements of ours under way, or given up, that may keep a MAIN
// from answering anybody: REGISTER, towards a target that hangs after all.
type blocking struct {
	mu    sync.Mutex
	until map[*string]time.Time // by the statement; it points to MAIN's address
}

// begin is called before the statement is sent to main, and ended with what it
// returned: one whose answer did not come goes on there.
func (b *blocking) begin(main string) (ended func(error)) {
	statement := &main
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until == nil {
		b.until = map[*string]time.Time{}
	}
	b.until[statement] = time.Now().Add(blockedBy)
	return func(err error) {
		if errors.Is(err, memgraph.ErrUnreachable) {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.until, statement)
	}
}

// holds reports whether there is one on main.
func (b *blocking) holds(main string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.until, func(_ *string, until time.Time) bool { return time.Now().After(until) })
	for statement := range b.until {
		if *statement == main {
			return true
		}
	}
	return false
}
