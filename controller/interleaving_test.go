package controller

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// records are what holds the record.
var records = corev1.SchemeGroupVersion.WithResource("configmaps")

// touch changes the record as somebody else does, who means nothing by it, right before
// a write.
func (l *lab) touch() {
	stored, err := l.cs.Tracker().Get(records, testNamespace, RecordName(testSet))
	assert.NoError(l.t, err)
	other := stored.(*corev1.ConfigMap).DeepCopy()
	l.api.last++ // whose lock the write holds
	other.ResourceVersion = strconv.FormatInt(l.api.last, 10)
	assert.NoError(l.t, l.cs.Tracker().Update(records, other, testNamespace))
}

// atWrite has f called right before the n-th write of the record from now on.
func (l *lab) atWrite(n int, f func()) {
	l.api.intercept(func(a clienttesting.Action) error {
		if a.GetResource() == records {
			if n--; n == 0 {
				f()
			}
		}
		return nil
	})
}

// Whichever write of a failover meets another record than was read, it is decided on
// anew, and made once.
func TestAConflictAtAnyWriteIsDecidedAnew(t *testing.T) {
	for n := 1; n <= 3; n++ {
		t.Run(fmt.Sprintf("write %d", n), func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.running()
				_, stop := l.start("a")
				defer stop()
				l.settled()
				before := l.record()
				l.atWrite(n, l.touch)
				l.lose(0)
				r := l.within(time.Second, "a new MAIN", isMain(before.Partner.Pod))
				l.protected()
				assert.Equal(t, before.Generation+1, r.Generation)
				assert.Len(t, r.History, len(before.History)+1)
			})
		})
	}
}

// single counts who asks an instance at the same time.
type single struct {
	Prober

	mu     sync.Mutex
	asking map[string]int
	most   int
}

func (s *single) Identify(ctx context.Context, addr string) (memgraph.Identity, error) {
	s.count(addr, 1)
	defer s.count(addr, -1)
	if err := sleep(ctx, 3*time.Millisecond); err != nil {
		return memgraph.Identity{}, err
	}
	return s.Prober.Identify(ctx, addr)
}

func (s *single) count(addr string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asking[addr] += n
	s.most = max(s.most, s.asking[addr])
}

// However many workers the urgent lane has, and however much is urgent at once, one
// decision is made and carried out at a time: there is one key.
func TestUrgentWorkersNeverDecideAtOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		asked := &single{Prober: l.fleet, asking: map[string]int{}}
		l.change = func(c *Config) { c.UrgentWorkers = 16 }
		l.wrap = func(c *Controller) { c.deps.UrgentProber = asked }
		c, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		promoted := len(l.fleet.statements("promote"))
		var crowd sync.WaitGroup
		for range 20 {
			crowd.Go(func() {
				for range 200 {
					c.Suspect()
					<-time.After(time.Millisecond)
				}
			})
		}
		l.lose(0)
		r := l.within(time.Second, "a new MAIN", isMain(before.Partner.Pod))
		crowd.Wait()
		synctest.Wait()
		assert.Equal(t, 1, asked.most)
		assert.Equal(t, before.Generation+1, r.Generation)
		assert.Len(t, l.fleet.statements("promote"), promoted+1)
		assert.Len(t, l.record().History, len(before.History)+1)
	})
}

// witness notes whether each process that is promoted is the one that the record names.
type witness struct {
	Roles
	l     *lab
	named []bool
}

func (w *witness) Promote(ctx context.Context, addr string) error {
	m := w.l.record().Main
	w.l.fleet.with(m.Index, func(i *instance) { w.named = append(w.named, i.id.RunID == m.RunID) })
	return w.Roles.Promote(ctx, addr)
}

// Between the decision and the promotion the partner's process may end, and another
// begin at the same address, of which nobody knows yet what it holds. It is promoted in
// a generation that names it.
func TestAPartnerThatRestartsMeanwhileIsNotTakenForWhatItWas(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		seen := &witness{l: l}
		l.wrap = func(c *Controller) { seen.Roles, c.deps.Roles = c.deps.Roles, seen }
		_, stop := l.start("a")
		defer stop()
		l.settled()
		heir := l.record().Partner
		l.atWrite(1, func() { l.fleet.with(heir.Index, func(i *instance) { i.id.RunID += "b" }) })
		l.lose(0)
		r := l.within(2*time.Second, "a new MAIN", isMain(heir.Pod))
		assert.Equal(t, heir.RunID+"b", r.Main.RunID)
		assert.Equal(t, []bool{true}, seen.named)
	})
}
