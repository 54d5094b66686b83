package controller

import (
	"context"
	"errors"
	"sync"
	"time"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

const (
	// answerTimeout is when a question is given up, and its connection with it. Until
	// then a late answer still counts: to connect again would be to queue for another
	// login, which in a storm of them takes longer.
	answerTimeout = 10 * time.Second
	// deniedPause follows a refused login. It costs Memgraph as much as a good one,
	// 0.24 s during which nobody else can log in.
	deniedPause = 5 * time.Second
	// blockedBy is for how long a REGISTER of ours can keep MAIN from answering
	// anybody: 10 s towards a target that hangs (observed on 3.7.2 and 3.12.0).
	blockedBy = 10 * time.Second
)

// probed are the two pods that are watched over, as labels of metrics.
type probed string

const (
	probedMain    probed = "main"
	probedPartner probed = "partner"
)

// of is who plays the part in a record; the zero Member is nobody.
func (p probed) of(t memgraph.Topology) memgraph.Member {
	if p == probedMain {
		return t.Main
	}
	return t.Partner
}

// sentry asks MAIN or the partner for its role, over and over, while a term lasts.
// It decides nothing: what it finds goes to the observations, and what it finds
// wrong to the urgent lane, which asks anew over connections of its own.
type sentry struct {
	t       *term
	part    probed
	subject string // the pod's UID that pulse is of
	pulse   failover.Pulse
	since   time.Time // when it missed last, or was asked; zero once it has answered
	evicted time.Time // when a pod was evicted last; zero if none was
}

// run looks every ProbeInterval until ctx ends.
func (s *sentry) run(ctx context.Context) {
	defer s.follow("")
	tick := time.NewTicker(s.t.c.cfg.ProbeInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		pause := tick.C
		if pod, ok := s.pod(); ok {
			s.follow(pod.UID)
			if errors.Is(s.look(ctx, pod), memgraph.ErrUnauthenticated) {
				pause = time.After(deniedPause)
			}
		} else {
			s.follow("")
		}
		select {
		case <-ctx.Done():
		case <-pause:
		}
	}
}

// pod is whom to look at, if that is still the pod of the record.
func (s *sentry) pod() (memgraph.Pod, bool) {
	m := s.part.of(s.t.c.record.latest())
	p, ok := s.t.pod(m.Pod)
	return p, ok && !m.None() && p.UID == m.UID && p.IP != ""
}

// follow begins with another pod, "" for none.
func (s *sentry) follow(uid string) {
	if uid == s.subject {
		return
	}
	s.judge(s.subject, memgraph.Unjudged)
	s.subject, s.pulse, s.since = uid, failover.Pulse{}, time.Time{}
}

// judge has everybody know the verdict on a pod.
func (s *sentry) judge(uid string, v memgraph.Verdict) {
	c := s.t.c
	c.seen.judge(uid, v)
	isolated := true
	for _, part := range []probed{probedMain, probedPartner} {
		isolated = isolated && c.seen.of(part.of(c.record.latest()).UID).Verdict.Lost()
	}
	c.metrics.probes.judged(s.part, v, isolated)
}

// look puts one question, and takes note of every ProbeInterval after ProbeTimeout
// that passes without an answer. It returns how the question ended.
func (s *sentry) look(ctx context.Context, pod memgraph.Pod) error {
	cfg := s.t.c.cfg
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	replies := make(chan reply, 1)
	asking.Go(func() {
		id, asked, err := askTwice(ctx, s.t.c.deps.Sentinel, pod, answerTimeout)
		replies <- reply{id, asked, err}
	})
	if s.since.IsZero() {
		s.since = time.Now()
	}
	due := time.Now().Add(cfg.ProbeTimeout)
	for sign := failover.Answer; ; sign = failover.LateAnswer {
		select {
		case r := <-replies:
			if ctx.Err() == nil {
				s.heed(ctx, pod, r, sign)
			}
			return r.err
		case <-time.After(time.Until(due)):
		}
		if present, ok := s.pod(); !ok || present.UID != pod.UID {
			return nil
		}
		s.miss(ctx, pod)
		due = due.Add(cfg.ProbeInterval)
	}
}

// reply is how a question ended that was put at asked.
type reply struct {
	id    memgraph.Identity
	asked time.Time
	err   error
}

// heed takes note of a reply; sign is what it is if it is an answer.
func (s *sentry) heed(ctx context.Context, pod memgraph.Pod, r reply, sign failover.Sign) {
	switch reach(r.err) {
	case memgraph.Refused:
		sign = failover.Refusal
	case memgraph.Denied:
		sign = failover.Denial
	case memgraph.Silent:
		s.miss(ctx, pod)
		return
	default:
		s.t.c.metrics.probes.answers.WithLabelValues(string(s.part)).Observe(time.Since(r.asked).Seconds())
	}
	// Whom nobody knows is left to those who ask a stranger the rest as well.
	known := s.t.c.seen.of(pod.UID).Reach != memgraph.NotAsked
	if known && s.t.c.seen.met(pod.UID, r.asked, r.id, r.err) {
		s.t.c.news.met(pod, r.id, r.err)
		s.t.urgent.add(clusterKey, r.asked)
	}
	s.note(ctx, pod, sign)
	s.since = time.Time{}
}

// miss takes note that the pod has not answered. What shows by the next time that it
// lives may come while nobody is asked.
func (s *sentry) miss(ctx context.Context, pod memgraph.Pod) {
	now := time.Now()
	s.note(ctx, pod, s.missed(ctx, pod))
	s.since = now
}

// missed is what it means that the pod has not answered since it was last looked
// at: nothing, if something else explains it, and else whether anybody is there.
func (s *sentry) missed(ctx context.Context, pod memgraph.Pod) failover.Sign {
	c, addr := s.t.c, pod.Addr()
	if c.seen.blocking.holds(addr) || c.deps.Heard(addr).After(s.since) {
		return failover.Noise
	}
	if s.part == probedMain {
		vouched := c.gateways.vouched(s.since)
		c.gateways.doubt(c.record.latest().Main.RunID)
		if vouched {
			return failover.Noise
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.ProbeInterval)
	defer cancel()
	switch err := c.deps.Sentinel.Listens(ctx, addr); {
	case err == nil:
		return failover.Silence
	case errors.Is(err, memgraph.ErrRefused):
		return failover.Refusal
	}
	return failover.Absence
}

// note adds a sign to the pulse, and has the leader decide anew if the verdict is
// another one for it.
func (s *sentry) note(ctx context.Context, pod memgraph.Pod, sign failover.Sign) {
	if ctx.Err() != nil {
		return // it was us who stopped listening
	}
	c, before := s.t.c, s.pulse.Verdict
	s.pulse = s.pulse.After(sign, c.cfg.ProbeMisses)
	after := s.pulse.Verdict
	s.judge(pod.UID, after)
	if after != before {
		c.news.judged(pod, s.part, before, after)
		s.t.urgent.add(clusterKey, time.Now())
	}
	if after.Lost() && s.part == probedPartner {
		s.relieve(ctx)
	}
}
