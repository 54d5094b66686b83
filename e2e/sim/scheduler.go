package sim

import "time"

// event is something that happens at a moment of virtual time.
type event struct {
	at  time.Duration
	seq int // of two at the same moment, the one that was planned first
	run func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// scheduler runs events in the order of virtual time. Code that waits in its
// middle runs as a task, on a goroutine of its own; but there is one baton, so
// that at any moment one of them runs, and a schedule depends on its seed alone.
type scheduler struct {
	now   time.Duration
	until time.Duration // where run stops
	queue []event       // a heap
	seq   int
	steps int             // taken
	tasks int             // that have not ended
	idle  []chan func()   // goroutines without a task
	spare []chan struct{} // by which tasks are resumed
	// errand is what the running task is about, if it said so.
	errand any
	// yielded gives the baton back to run.
	yielded chan struct{}
	// moved is called whenever something may have changed.
	moved func()
}

func newScheduler() *scheduler {
	return &scheduler{yielded: make(chan struct{}), moved: func() {}}
}

// after plans f, which must not wait, for d from now.
func (s *scheduler) after(d time.Duration, f func()) {
	s.seq++
	s.queue = append(s.queue, event{at: s.now + d, seq: s.seq, run: f})
	for i := len(s.queue) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s.queue[i].before(s.queue[parent]) {
			return
		}
		s.queue[i], s.queue[parent] = s.queue[parent], s.queue[i]
		i = parent
	}
}

// pop takes the first event.
func (s *scheduler) pop() event {
	first, last := s.queue[0], len(s.queue)-1
	s.queue[0] = s.queue[last]
	s.queue[last] = event{}
	s.queue = s.queue[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if s.queue[child].before(s.queue[least]) {
				least = child
			}
		}
		if least == i {
			return first
		}
		s.queue[i], s.queue[least] = s.queue[least], s.queue[i]
		i = least
	}
}

// run lets everything happen that is planned up to the given moment.
func (s *scheduler) run(until time.Duration) {
	s.until = until
	for len(s.queue) > 0 && s.queue[0].at <= s.until {
		s.step()
	}
	s.now = max(s.now, s.until)
}

// maxSteps is far above what a schedule takes: more are a loop.
const maxSteps = 2_000_000

func (s *scheduler) step() {
	if s.steps++; s.steps > maxSteps {
		panic("the schedule does not end")
	}
	e := s.pop()
	s.now = e.at
	e.run()
	s.moved()
}

// drain lets the tasks end, whom everything tells to, and their goroutines.
func (s *scheduler) drain() {
	s.until = s.now // nobody overtakes
	for s.tasks > 0 {
		s.step()
	}
	for _, jobs := range s.idle {
		close(jobs)
	}
}

// spawn plans f, which may wait, for now. Goroutines are used again: the stacks
// of the decisions are deep, and growing them would cost more than the rest.
func (s *scheduler) spawn(f func()) {
	s.tasks++
	s.after(0, func() {
		if len(s.idle) == 0 {
			s.idle = append(s.idle, make(chan func()))
			go s.work(s.idle[0])
		}
		last := len(s.idle) - 1
		jobs := s.idle[last]
		s.idle = s.idle[:last]
		s.errand = nil
		jobs <- f
		<-s.yielded
	})
}

// work runs one task after the other.
func (s *scheduler) work(jobs chan func()) {
	for f := range jobs {
		f()
		s.tasks--
		s.idle = append(s.idle, jobs)
		s.yielded <- struct{}{}
	}
}

// suspend has the running task wait for wake, which it hands to arm. Only the
// first call of wake counts.
func (s *scheduler) suspend(arm func(wake func())) {
	woken := false
	s.yield(func(resume func()) {
		arm(func() {
			if !woken {
				woken = true
				s.after(0, resume)
			}
		})
	})
}

// yield has the running task wait for the event resume, which it hands to plan.
func (s *scheduler) yield(plan func(resume func())) {
	if len(s.spare) == 0 {
		s.spare = append(s.spare, make(chan struct{}))
	}
	last := len(s.spare) - 1
	resumed := s.spare[last]
	s.spare = s.spare[:last]
	errand := s.errand
	plan(func() {
		resumed <- struct{}{}
		<-s.yielded
	})
	s.yielded <- struct{}{}
	<-resumed
	s.errand = errand
	s.spare = append(s.spare, resumed)
}

// sleep has the running task wait for d. Where nothing else happens meanwhile it
// simply is later.
func (s *scheduler) sleep(d time.Duration) {
	if at := s.now + d; at <= s.until && (len(s.queue) == 0 || s.queue[0].at > at) {
		s.moved()
		s.now = at
		return
	}
	s.yield(func(resume func()) { s.after(d, resume) })
}

// result is what one task leaves for another.
type result struct {
	s     *scheduler
	done  bool
	err   error
	woken func()
}

func (r *result) set(err error) {
	r.done, r.err = true, err
	if r.woken != nil {
		r.woken()
	}
}

// within waits for the result until the given moment, and tells whether it came.
func (r *result) within(until time.Duration) bool {
	if !r.done && until > r.s.now {
		r.s.suspend(func(wake func()) {
			r.woken = wake
			r.s.after(until-r.s.now, wake)
		})
	}
	return r.done
}

// turn is a lock whose holder may wait; the others queue.
type turn struct {
	held  bool
	queue []func()
}

func (t *turn) take(s *scheduler) {
	for t.held {
		s.suspend(func(wake func()) { t.queue = append(t.queue, wake) })
	}
	t.held = true
}

// try takes the turn if it is free.
func (t *turn) try() bool {
	was := t.held
	t.held = true
	return !was
}

func (t *turn) give() {
	t.held = false
	if len(t.queue) > 0 {
		next := t.queue[0]
		t.queue = t.queue[1:]
		next()
	}
}
