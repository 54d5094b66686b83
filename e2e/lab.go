package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"memgraph-controller/e2e/cluster"
	"memgraph-controller/memgraph"
)

const (
	namespace   = "memgraph-lab"
	statefulSet = "memgraph"
	deployment  = "memgraph-controller"
	// statusPoll is how often the controllers are asked: often enough to lose no
	// time by, and seldom enough to leave the machine to them.
	statusPoll = 25 * time.Millisecond
	// statusTimeout bounds one look at a controller.
	statusTimeout = 2 * time.Second
)

// Lab is an embedded cluster with everything installed. Its owner must Stop it.
type Lab struct {
	*cluster.Cluster
	Kube kubernetes.Interface
	Eye  *Eye

	http http.Client
}

// Start builds what is to run, starts the cluster and installs the manifests.
// Lines for people go to log.
func Start(ctx context.Context, log io.Writer) (*Lab, error) {
	_, self, _, _ := runtime.Caller(0)
	here := filepath.Dir(self)
	c, err := cluster.Start(ctx, cluster.Options{Log: log, Images: images})
	if err != nil {
		return nil, err
	}
	l := &Lab{Cluster: c, http: http.Client{Timeout: statusTimeout}}
	if err := l.install(ctx, filepath.Join(here, "manifests")); err != nil {
		return nil, errors.Join(err, l.Stop())
	}
	return l, nil
}

// images are this module's programs in place of the manifests' container images,
// with the flags in place of a network namespace. MAIN may fail as often as tests
// have it fail.
var images = []cluster.Image{
	{Name: "memgraph/memgraph", Path: "module:memgraph-controller/memgraph/memgraphtest/memgraph", Args: func(c cluster.Container) []string {
		return []string{"--listen-host=" + c.IP, "--control-socket=" + c.ControlSocket()}
	}},
	{Name: "memgraph-controller", Path: "module:memgraph-controller", Args: func(c cluster.Container) []string {
		switch c.Args[0] {
		case "run":
			return []string{
				"--gateway-listen=" + c.IP + ":7687", "--gateway-read-listen=" + c.IP + ":7688", "--http-listen=" + c.IP + ":8080",
				"--max-failovers=0",
			}
		case "guard":
			return []string{"--address=" + c.IP + ":7687"}
		}
		return nil
	}},
}

func (l *Lab) install(ctx context.Context, manifests string) (err error) {
	if l.Kube, err = kubernetes.NewForConfig(l.Config()); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	if l.Eye, err = watch(ctx, l.Kube); err != nil {
		return err
	}
	return l.Apply(ctx, manifests)
}

// Stop ends the cluster and everything in it.
func (l *Lab) Stop() error {
	if l.Eye != nil {
		l.Eye.close()
	}
	l.http.CloseIdleConnections()
	return l.Cluster.Stop()
}

// Controllers are the ready replicas of the controller, as they describe
// themselves now.
func (l *Lab) Controllers(ctx context.Context) ([]Status, error) {
	pods, err := l.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=memgraph-controller"})
	if err != nil {
		return nil, fmt.Errorf("list controllers: %w", err)
	}
	var out []Status
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || !ready(&p) {
			continue
		}
		s, err := l.status(ctx, p.Name, p.Status.PodIP)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// status is what the controller in pod, at ip, says of itself.
func (l *Lab) status(ctx context.Context, pod, ip string) (s Status, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+":8080/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return s, fmt.Errorf("ask %s for its status: %w", pod, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("read status of %s: %w", pod, err)
	}
	s.Pod, s.Addr = pod, ip+":7687"
	return s, nil
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// until asks the controllers over and over until is is content with what they
// say. It returns what is said last when ctx ends.
func (l *Lab) until(ctx context.Context, what string, is func([]Status) error) error {
	for {
		controllers, why := l.Controllers(ctx)
		if why == nil {
			why = is(controllers)
		}
		if why == nil {
			return nil
		}
		if err := Pause(ctx, statusPoll); err != nil {
			return fmt.Errorf("wait for %s: %w: %w", what, err, why)
		}
	}
}

// Whole waits until the cluster is as it should be, without a hand: a MAIN, a
// partner in sync, every other pod an async replica in step, and both gateways
// serving.
func (l *Lab) Whole(ctx context.Context) error { return l.until(ctx, "a whole cluster", incomplete) }

// Replaced waits until the leader has met another process in pod than was known
// before. Only then does Whole take it for what it is now.
func (l *Lab) Replaced(ctx context.Context, before Status, pod string) error {
	return l.until(ctx, "another process in "+pod, func(s []Status) error {
		if now := leader(s).pod(pod).RunID; now == "" || now == before.pod(pod).RunID {
			return fmt.Errorf("it is %q", now)
		}
		return nil
	})
}

// Back waits until the leader lists pod in a generation as a replica in step, or
// as one that has diverged, and returns when that was seen.
func (l *Lab) Back(ctx context.Context, pod string, generation int64) (at time.Time, diverged bool, err error) {
	err = l.until(ctx, pod+" to be back", func(controllers []Status) error {
		s := leader(controllers)
		p := s.pod(pod)
		if diverged = p.Diverged; s.Record.Generation == generation && (diverged || follows(p)) {
			return nil
		}
		return fmt.Errorf("not listed in generation %d", generation)
	})
	return time.Now(), diverged, err
}

// Leader is the controller that leads.
func (l *Lab) Leader(ctx context.Context) (s Status, err error) {
	err = l.until(ctx, "a leader", func(controllers []Status) error {
		if s = leader(controllers); !s.Leading {
			return errors.New("nobody leads")
		}
		return nil
	})
	return s, err
}

// History is the record's, as the leader shows it.
func (l *Lab) History(ctx context.Context) ([]memgraph.Change, error) {
	s, err := l.Leader(ctx)
	return s.Record.History, err
}

// Pause waits for d, or returns why ctx ended before.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
