package gateway

import (
	"sync/atomic"
	"time"
)

// Heard is when the process at addr last sent anything on the connection of a
// client whose Bolt the gateway reads; zero if it never did, or another has since.
// It lives even if it does not answer the question for its role: in a storm of
// logins that takes seconds. Source: observed on Memgraph 3.12.0.
func (g *Gateway) Heard(addr string) time.Time {
	if v := g.verifier.ear.last.Load(); v != nil && v.addr == addr {
		return time.Unix(0, v.at.Load())
	}
	return time.Time{}
}

// ear remembers who was heard last, which is MAIN but while it changes. It costs
// one look at the clock for each read.
type ear struct{ last atomic.Pointer[voice] }

type voice struct {
	addr string
	at   atomic.Int64 // Unix nanoseconds
}

func (e *ear) hear(addr string) {
	now, v := time.Now().UnixNano(), e.last.Load()
	if v != nil && v.addr == addr {
		v.at.Store(now)
		return
	}
	v = &voice{addr: addr}
	v.at.Store(now)
	e.last.Store(v)
}

// fill waits for more of what MAIN sends.
func (l *leg) fill() error {
	err := l.in.fill()
	if err == nil && l.ear != nil {
		l.ear.hear(l.main.addr)
	}
	return err
}
