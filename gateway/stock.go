package gateway

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"syscall"
	"time"

	"memgraph-controller/memgraph/bolt"
)

const (
	// activeWithin is how recently a session must have begun a unit to have a
	// connection kept ready for it.
	activeWithin = time.Minute
	// restockEvery is between two looks at what is missing, or has broken.
	restockEvery = time.Second
	// leftFor is how long connections to the new MAIN are left to its clients after
	// the next process is named, which may be at the same moment. A crowd of 64
	// takes them within 0.1 s.
	leftFor = 5 * time.Second
)

// credential is a login that sessions share.
type credential struct {
	login
	version  bolt.Version
	key      [sha256.Size]byte
	sessions int    // that have it
	legs     []*leg // logged in with it, for others to use
}

// stock keeps connections ready to the process that is expected to be MAIN next,
// logged in as the clients are: on a MAIN with users each login takes 0.24 s,
// during which there is no other, so that a crowd that moves to it would wait for
// many seconds. It is filled slowly, by one login after the other.
type stock struct {
	limit   int           // of legs
	changed chan struct{} // capacity 1: addr has
	key     [32]byte      // so that a login's hash says nothing outside the process

	mu          sync.Mutex
	addr        string
	left        time.Time // when legs to elsewhere are given up
	credentials map[[sha256.Size]byte]*credential
	link        *link // the verifier's
	legs        int
}

func newStock(limit int) *stock {
	s := &stock{limit: limit, changed: make(chan struct{}, 1), credentials: map[[sha256.Size]byte]*credential{}}
	_, _ = rand.Read(s.key[:]) // never fails
	return s
}

// share returns l as all sessions hold it that have logged in with the same. The
// caller's copy is wiped.
func (s *stock) share(v bolt.Version, l *login) *credential {
	h := hmac.New(sha256.New, s.key[:])
	for _, part := range [][]byte{{v.Major, v.Minor}, l.hello, l.logon} {
		_, _ = h.Write(part) // never fails; messages tell their own length
	}
	key := [sha256.Size]byte(h.Sum(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.credentials[key]
	if c == nil {
		c = &credential{version: v, key: key, login: login{hello: bytes.Clone(l.hello), logon: bytes.Clone(l.logon)}}
		s.credentials[key] = c
	}
	c.sessions++
	l.wipe()
	return c
}

// release takes back a share. After the last nothing is left of the login.
func (s *stock) release(c *credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.sessions--; c.sessions == 0 {
		s.keepLocked(c, func(*leg) bool { return false })
		c.wipe()
		delete(s.credentials, c.key)
	}
}

// keepLocked closes all of c's legs but those that are wanted.
func (s *stock) keepLocked(c *credential, wanted func(*leg) bool) {
	c.legs = slices.DeleteFunc(c.legs, func(l *leg) bool {
		if wanted(l) {
			return false
		}
		l.close()
		s.legs--
		return true
	})
}

// prepare has the stock kept at addr; nowhere if it is empty. What is connected to
// main is left to the clients that are about to move there, for leftFor.
func (s *stock) prepare(addr, main string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == addr {
		return
	}
	s.addr, s.left = addr, time.Now().Add(leftFor)
	for _, c := range s.credentials {
		s.keepLocked(c, func(l *leg) bool { return l.main.addr == main })
	}
	if s.link != nil {
		s.link.close()
		s.link = nil
	}
	select {
	case s.changed <- struct{}{}:
	default: // what is due will see this too
	}
}

// take returns a leg to main that is logged in as c, nil if there is none.
func (s *stock) take(c *credential, main *incarnation) (found *leg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		return nil
	}
	c.legs = slices.DeleteFunc(c.legs, func(l *leg) bool {
		if found != nil || l.main.addr != main.addr {
			return false
		}
		if s.legs--; l.runID == main.runID && quiet(l.conn) {
			found = l
		} else {
			l.close()
		}
		return true
	})
	if found != nil {
		found.main = main
	}
	return found
}

// takeLink returns the link to addr, nil if there is none.
func (s *stock) takeLink(addr string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	if l == nil || s.addr != addr {
		return nil
	}
	if s.link = nil; !quiet(l.conn) {
		l.close()
		return nil
	}
	return l
}

// quiet reports whether c is open and nothing has come on it.
func quiet(c *socket) bool {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return false
	}
	var buf [1]byte
	failed := raw.Control(func(fd uintptr) {
		_, _, err = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return failed == nil && err == syscall.EAGAIN
}

// restock keeps the stock as large as the clients' activity asks for, until ctx
// ends.
func (g *Gateway) restock(ctx context.Context) {
	defer g.stock.prepare("", "")
	ticker := time.NewTicker(restockEvery)
	defer ticker.Stop()
	for {
		for g.stockOne(ctx) {
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-g.stock.changed:
		}
	}
}

// stockOne adds what is missing most; false if nothing is, or it failed.
func (g *Gateway) stockOne(ctx context.Context) bool {
	addr, c, linkMissing := g.stock.missing(g.active())
	if addr == "" || ctx.Err() != nil {
		return false
	}
	if g.gate.current().addr == addr {
		return false // it is named: what is missing has been taken, not lost
	}
	if linkMissing {
		l, err := openLink(ctx, addr, &g.cfg)
		return err == nil && g.stock.putLink(addr, l)
	}
	l, err := g.openSpare(ctx, addr, c)
	return err == nil && g.stock.put(addr, c, l)
}

// active counts the sessions that have been of late, by their login.
func (g *Gateway) active() map[*credential]int {
	count, since := map[*credential]int{}, time.Now().Add(-activeWithin).Unix()
	g.sessions.each(func(s *session) {
		if c := s.login.Load(); c != nil && s.active.Load() >= since {
			count[c]++
		}
	})
	return count
}

// missing is where the stock is kept, and what it lacks: the link, or a leg for
// the login that lacks the most. The copy of the login is its caller's to wipe.
func (s *stock) missing(wanted map[*credential]int) (addr string, c *credential, link bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweepLocked()
	if s.addr == "" {
		return "", nil, false
	}
	if s.link == nil {
		return s.addr, nil, true
	}
	most := 0
	for candidate, want := range wanted {
		lack := want
		for _, l := range candidate.legs {
			if l.main.addr == s.addr {
				lack--
			}
		}
		if lack > most && candidate.sessions > 0 && s.legs < s.limit {
			most, c = lack, candidate
		}
	}
	if c == nil {
		return "", nil, false
	}
	return s.addr, &credential{version: c.version, key: c.key, login: login{bytes.Clone(c.hello), bytes.Clone(c.logon)}}, false
}

// sweepLocked drops what has broken, or was left long enough.
func (s *stock) sweepLocked() {
	if s.link != nil && !quiet(s.link.conn) {
		s.link.close()
		s.link = nil
	}
	left := time.Now().Before(s.left)
	for _, c := range s.credentials {
		s.keepLocked(c, func(l *leg) bool { return (left || l.main.addr == s.addr) && quiet(l.conn) })
	}
}

// openSpare logs in at addr as c, which it wipes.
func (g *Gateway) openSpare(ctx context.Context, addr string, c *credential) (*leg, error) {
	defer c.wipe()
	dialling, cancel := context.WithTimeout(ctx, g.cfg.DialTimeout)
	defer cancel()
	conn, err := dial(dialling, addr, g.cfg.BackendTLS)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { abort(conn) })()
	l, err := newLeg(&incarnation{addr: addr}, conn)
	if err != nil {
		reset(conn)
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(giveUpAfter))
	if err == nil {
		_, tag, failed := l.logIn(c.version, &c.login)
		if err = failed; err == nil && tag != bolt.TagSuccess {
			err = errRefused
		}
	}
	if err == nil {
		_, err = l.ask()
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// put adds l, if the stock is kept at addr still and its login is shared still.
func (s *stock) put(addr string, c *credential, l *leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	shared := s.credentials[c.key]
	if s.addr != addr || shared == nil {
		l.close()
		return false
	}
	shared.legs = append(shared.legs, l)
	s.legs++
	return true
}

func (s *stock) putLink(addr string, l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr != addr || s.link != nil {
		l.close()
		return false
	}
	s.link = l
	return true
}

// size is the number of legs and links in stock.
func (s *stock) size() (legs int, link bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.legs, s.link != nil
}
