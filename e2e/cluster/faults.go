package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph/memgraphtest"
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

// Kill sends SIGKILL to the pod's process and returns when it has ended. Peers
// see their connections close at once; the node notices at its next relist.
func (c *Cluster) Kill(ctx context.Context, pod string) error { return c.agent.Kill(ctx, pod) }

// Pause sends SIGSTOP to the pod's process and returns when it stands still.
// Peers see a hang: the kernel accepts and acknowledges for it, nothing answers.
func (c *Cluster) Pause(ctx context.Context, pod string) error { return c.agent.Pause(ctx, pod) }

// Resume sends SIGCONT to the pod's process.
func (c *Cluster) Resume(pod string) error { return c.agent.Resume(pod) }

// LoseVolume empties the volumes of the pod's claims and kills its process,
// which starts again on them if the pod lives. The claims stay bound: it is the
// disk that is lost.
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

// Control commands the stand-in that plays the pod, if its image was given
// Container.ControlSocket. Its caller closes it.
func (c *Cluster) Control(pod string) (*memgraphtest.Control, error) {
	socket, err := c.agent.ControlSocket(pod)
	if err != nil {
		return nil, err
	}
	return memgraphtest.NewControl(socket), nil
}

// Network has the stand-in that plays the pod treat its peers as mode says, and
// returns when it does.
func (c *Cluster) Network(ctx context.Context, pod string, mode memgraphtest.Mode) error {
	control, err := c.Control(pod)
	if err != nil {
		return err
	}
	defer control.Close()
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if err := control.SetNetwork(ctx, mode); err != nil {
		return fmt.Errorf("switch network of %s: %w", pod, err)
	}
	return nil
}

// PauseAPI stops the API server: connections stay and get no answer, watches
// go silent. etcd and the controllers run on, as they do when it is killed.
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
