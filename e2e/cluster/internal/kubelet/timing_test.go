package kubelet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRelistNextIsLaterThanNow(t *testing.T) {
	phase := time.Unix(1000, 0)
	r := relist{phase: phase, period: time.Second}
	for after, want := range map[time.Duration]time.Duration{
		0:                       time.Second,
		time.Millisecond:        time.Second,
		999 * time.Millisecond:  time.Second,
		time.Second:             2 * time.Second,
		3500 * time.Millisecond: 4 * time.Second,
	} {
		assert.Equal(t, phase.Add(want), r.next(phase.Add(after)), "invariant 1, %s", after)
	}
}

// A container that lives for 100 ms each time, and one that lives long.
func TestBackOffClimbsToItsCapAndForgets(t *testing.T) {
	const life = 100 * time.Millisecond
	now := time.Unix(1000, 0)
	l := ladder{limit: 30 * time.Second}
	var pauses []time.Duration
	for range 5 {
		ended := now
		now = l.due(ended)
		pauses = append(pauses, now.Sub(ended))
		l.climb(ended, now)
		now = now.Add(life)
	}
	assert.Equal(t, []time.Duration{0, 10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second}, pauses)

	ended := now.Add(61 * time.Second)
	assert.Equal(t, ended, l.due(ended), "it ran for more than twice the cap")
}

func TestEnding(t *testing.T) {
	type times struct{ alive, hooks, grace time.Duration }
	for _, c := range []struct {
		name string
		do   func(*ending)
		want times
	}{
		{"gracefully", func(e *ending) { e.within(30 * time.Second) }, times{0, 30 * time.Second, 30 * time.Second}},
		{"gracefully, then with less", func(e *ending) {
			e.within(30 * time.Second)
			<-time.After(time.Second)
			e.within(5 * time.Second)
		}, times{0, 6 * time.Second, 6 * time.Second}},
		{"by force", func(e *ending) { e.force() }, times{0, 0, minGrace}},
		{"gracefully, then by force", func(e *ending) {
			e.within(30 * time.Second)
			<-time.After(time.Second)
			e.force()
		}, times{0, time.Second, time.Second + minGrace}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				e := newEnding(t.Context())
				defer e.release()
				go c.do(e)
				<-e.alive.Done()
				var got times
				got.alive = time.Since(start)
				<-e.hooks.Done()
				got.hooks = time.Since(start)
				<-e.grace.Done()
				got.grace = time.Since(start)
				assert.Equal(t, c.want, got)
			})
		})
	}
}
