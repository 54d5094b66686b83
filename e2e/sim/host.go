package sim

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// cluster is the StatefulSet's name.
const cluster = "mg"

// box is a pod's network identity; proc is nil while nothing runs in it.
type box struct {
	index int
	proc  *process
}

// host is all that happens to the pods of one ordinal: StatefulSet controller,
// kubelet and volume. What it does is true at once; what it tells the API server
// comes later.
type host struct {
	w     *world
	index int
	vol   *volume
	ip    string // of the present pod, "" while it has none
	uid   string
	runs  int // containers started in the present pod
	// emptied is the incarnation after which the data was set aside last.
	emptied string
}

func (w *world) newHost(index int) *host {
	return &host{w: w, index: index, vol: w.newVolume()}
}

// create makes a new pod on the volume.
func (h *host) create() {
	uid := fmt.Sprintf("uid-%d", h.w.unique())
	h.uid, h.ip, h.runs = uid, "", 0
	name := memgraph.PodName(cluster, h.index)
	h.w.api.setPod(h.index, &memgraph.Pod{
		Name: name, Index: h.index, UID: uid, Host: name + ".mg.sim.svc",
	})
	h.later(20*time.Millisecond, 200*time.Millisecond, func() {
		h.ip = fmt.Sprintf("10.%d.0.%d", h.index, h.w.unique())
		h.w.boxes[h.ip] = &box{index: h.index}
		h.prepare(h.w.now + prepareLimit)
	})
}

// prepareLimit is controller's: for how long the record is asked for before a pod
// starts with the data that is there.
const prepareLimit = 10 * time.Second

// prepare is the init container: it sets data aside that the record says is of no
// use, and then lets Memgraph start.
func (h *host) prepare(until time.Duration) {
	if api := h.w.api; api.down == 0 && !h.w.net.cut(mgNode(h.index), apiNode) {
		if order, stands := api.record.StartsEmpty(memgraph.PodName(cluster, h.index)); stands && h.emptied != order.UID {
			h.w.tracef("mg-%d sets its data aside: %s", h.index, order.Reason)
			h.emptied, h.vol = order.UID, h.w.newVolume()
		}
	} else if h.w.now < until {
		h.later(500*time.Millisecond, 500*time.Millisecond, func() { h.prepare(until) })
		return
	}
	h.start()
}

// later plans f, unless the pod is another by then.
func (h *host) later(least, most time.Duration, f func()) {
	uid := h.uid
	h.w.after(h.w.between(least, most), func() {
		if h.uid == uid {
			f()
		}
	})
}

// tell changes what the API server knows of the present pod.
func (h *host) tell(change func(*memgraph.Pod)) {
	p := *h.w.api.pods[h.index]
	change(&p)
	h.w.api.setPod(h.index, &p)
}

// proc is the process of the present pod, nil if none runs.
func (h *host) proc() *process {
	if b := h.w.boxes[h.ip]; b != nil {
		return b.proc
	}
	return nil
}

// start runs a container. Bolt opens once the log is read, and the pod is ready
// some time later.
func (h *host) start() {
	h.runs++
	p := h.w.newProcess(h.index, h.vol)
	h.w.boxes[h.ip].proc = p
	h.w.tracef("%s starts as %s", memgraph.PodName(cluster, h.index), p)
	container := fmt.Sprintf("%s/%d", h.uid, h.runs)
	h.tell(func(pod *memgraph.Pod) {
		pod.IP, pod.Container, pod.Running, pod.Ready = h.ip, container, true, false
	})
	p.after(h.w.between(20*time.Millisecond, 800*time.Millisecond), p.begin)
	p.after(h.w.between(time.Second, 2*time.Second), func() {
		if h.proc() == p {
			h.tell(func(pod *memgraph.Pod) { pod.Ready = true })
		}
	})
}

// crash kills the process; the kubelet notices and restarts the container.
func (h *host) crash() {
	if !h.kill() {
		return
	}
	h.later(10*time.Millisecond, 300*time.Millisecond, func() {
		if h.proc() == nil {
			h.tell(func(pod *memgraph.Pod) { pod.Running, pod.Ready = false, false })
		}
	})
	h.later(300*time.Millisecond, 2*time.Second, func() {
		if h.proc() == nil {
			h.start()
		}
	})
}

// kill ends the process, and tells whether there was one.
func (h *host) kill() bool {
	p := h.proc()
	if p == nil {
		return false
	}
	h.w.boxes[h.ip].proc = nil
	h.w.end(p)
	return true
}

// end kills a process. The gateways that hold a connection to it notice.
func (w *world) end(p *process) {
	w.tracef("%s dies", p)
	p.kill()
	for _, h := range w.hosts {
		if main := h.proc(); main != nil && main.member(p) != nil && !w.net.cut(mgNode(h.index), mgNode(p.index)) {
			main.member(p).reset = true
		}
	}
	for _, c := range w.ctls {
		if m := c.gate.main; m != nil && m.runID == p.runID && !w.net.cut(c.node, mgNode(p.index)) {
			c.after(w.latency(), func() { c.gate.lost(m) })
		}
	}
}

// wipe is crash with the loss of the volume.
func (h *host) wipe() {
	if h.proc() == nil {
		return
	}
	old := h.vol
	h.vol = h.w.newVolume()
	h.w.tracef("mg-%d loses its volume with ldt %d", h.index, old.ldt())
	h.w.excuse(old)
	h.crash()
}

// evict deletes the pod gracefully: it runs on for its preStop hook, and is then
// ended and replaced.
func (h *host) evict() {
	pod := h.w.api.pods[h.index]
	if pod == nil || pod.Terminating {
		return
	}
	h.tell(func(p *memgraph.Pod) { p.Terminating = true })
	h.later(200*time.Millisecond, 4*time.Second, func() {
		h.kill()
		h.later(10*time.Millisecond, 200*time.Millisecond, h.replace)
	})
}

// replace removes the pod; the StatefulSet's next one follows.
func (h *host) replace() {
	delete(h.w.boxes, h.ip)
	h.uid, h.ip = "", ""
	h.w.api.setPod(h.index, nil)
	h.later(20*time.Millisecond, 500*time.Millisecond, h.create)
}

// remove deletes the pod by force: its process outlives it for a while, and the
// next one waits for the volume.
func (h *host) remove() {
	if h.w.api.pods[h.index] == nil {
		return
	}
	ip, b := h.ip, h.w.boxes[h.ip]
	h.uid, h.ip = "", ""
	h.w.api.setPod(h.index, nil)
	h.later(0, 1500*time.Millisecond, func() {
		if b != nil && b.proc != nil {
			h.w.end(b.proc)
			b.proc = nil
		}
		delete(h.w.boxes, ip)
		h.create()
	})
}

// hang stops the process until the returned function is called; meanwhile it
// does not answer, and is not dead to Kubernetes.
func (h *host) hang() (undo func()) {
	p := h.proc()
	if p == nil || p.stopped {
		return func() {}
	}
	p.stop()
	h.later(2*time.Second, 4*time.Second, func() { h.ready(p, false) })
	return func() {
		p.resume()
		h.later(100*time.Millisecond, time.Second, func() { h.ready(p, true) })
	}
}

// ready is the readiness probe of a process that hangs or hung.
func (h *host) ready(p *process, is bool) {
	if h.proc() == p && p.stopped != is && p.open {
		h.tell(func(pod *memgraph.Pod) { pod.Ready = is })
	}
}
