package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NetworkMode is how a pod's own ports treat their peers.
type NetworkMode string

const (
	// NetworkOpen ends the other modes.
	NetworkOpen NetworkMode = "open"
	// NetworkRefuse closes all connections and refuses new ones.
	NetworkRefuse NetworkMode = "refuse"
	// NetworkBlackHole keeps connections but lets nothing through.
	NetworkBlackHole NetworkMode = "blackhole"
)

// controlTimeout bounds a request to a process that may be sick.
const controlTimeout = 5 * time.Second

// A pod is named alone, if that is unambiguous in the cluster, or as
// namespace/name; the newest incarnation on a node is meant.

// Process says which process plays the pod and since when it runs.
func (c *Cluster) Process(pod string) (pid int, started time.Time, err error) {
	p, err := c.agent.Process(pod)
	if err != nil {
		return 0, time.Time{}, err
	}
	return p.PID(), p.Started(), nil
}

// Kill sends SIGKILL to the pod's process and returns when it has ended.
func (c *Cluster) Kill(ctx context.Context, pod string) error { return c.agent.Kill(ctx, pod) }

// Pause sends SIGSTOP to the pod's process and returns when it stands still.
func (c *Cluster) Pause(ctx context.Context, pod string) error { return c.agent.Pause(ctx, pod) }

// Resume sends SIGCONT to the pod's process.
func (c *Cluster) Resume(pod string) error { return c.agent.Resume(pod) }

// LoseVolume empties the volumes of the pod's claims and kills its process,
// which starts again on them if the pod lives.
func (c *Cluster) LoseVolume(ctx context.Context, pod string) error {
	return c.agent.LoseVolume(ctx, pod)
}

// Delete asks the API to delete the pod, with grace in seconds or, if it is
// nil, the pod's own. It returns when the API has answered: by then the pod has
// a deletionTimestamp, or with grace 0 no object any more.
func (c *Cluster) Delete(ctx context.Context, pod string, grace *int64) error {
	namespace, name, err := c.agent.Name(pod)
	if err != nil {
		return err
	}
	if err := c.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: grace}); err != nil {
		return fmt.Errorf("delete pod %s: %w", pod, err)
	}
	return nil
}

// Network switches what the pod's process does with its connections. The
// process does it itself, asked by POST /network?mode= on the socket that
// Container.ControlSocket names.
func (c *Cluster) Network(ctx context.Context, pod string, mode NetworkMode) error {
	socket, err := c.agent.ControlSocket(pod)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://pod/network?mode="+string(mode), nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("switch network of %s: %w", pod, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, logTail)) // the status tells enough
		return fmt.Errorf("switch network of %s: %s: %s", pod, resp.Status, text)
	}
	return nil
}

// PauseAPI stops the API server: connections stay and get no answer.
func (c *Cluster) PauseAPI(ctx context.Context) error { return c.plane.apiProcess().Pause(ctx) }

// ResumeAPI continues a paused API server.
func (c *Cluster) ResumeAPI() error { return c.plane.apiProcess().Resume() }

// KillAPI kills the API server: connections break and are refused.
func (c *Cluster) KillAPI(ctx context.Context) error { return c.plane.apiProcess().Kill(ctx) }

// StartAPI starts it again, if it has ended, and returns when it is ready.
func (c *Cluster) StartAPI(ctx context.Context) error { return c.plane.startAPI(ctx) }

// Logs is what all containers of pods of that name have printed, over all
// restarts and incarnations, container after container.
func (c *Cluster) Logs(pod string) ([]byte, error) {
	if !strings.Contains(pod, "/") {
		pod = "*/" + pod
	}
	pattern := strings.ReplaceAll(pod, "/", "_") + "_*.log"
	files, err := filepath.Glob(filepath.Join(c.lease.dir, "logs", pattern))
	if err != nil {
		return nil, fmt.Errorf("find logs of %s: %w", pod, err)
	}
	var all []byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read logs of %s: %w", pod, err)
		}
		all = append(all, b...)
	}
	return all, nil
}
