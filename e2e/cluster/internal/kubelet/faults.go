package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/uuid"

	"memgraph-controller/e2e/cluster/internal/process"
)

var errNoProcess = errors.New("no process")

// Process is the pod's that was started first of those that run. The pod is
// named alone, if that is unambiguous, or as namespace/name; so it is below.
func (a *Agent) Process(name string) (*process.Process, error) {
	procs, err := a.processes(name)
	if err != nil {
		return nil, err
	}
	return procs[0], nil
}

// Kill sends SIGKILL to the pod's processes and returns when they have ended.
func (a *Agent) Kill(ctx context.Context, name string) error {
	return a.each(name, func(p *process.Process) error { return p.Kill(ctx) })
}

// Pause stops the pod's processes and returns when they stand still.
func (a *Agent) Pause(ctx context.Context, name string) error {
	return a.each(name, func(p *process.Process) error { return p.Pause(ctx) })
}

// Resume continues the pod's processes.
func (a *Agent) Resume(name string) error { return a.each(name, (*process.Process).Resume) }

// LoseVolume gives the pod empty volumes for its claims, and kills its
// processes. The order is what makes the new volumes empty:
//
//  1. stop the processes: from here on they write nothing;
//  2. replace the directories;
//  3. kill the processes: the node restarts them only now.
//
// Were they killed first, the node might restart one on the old directory; were
// they not stopped, one might write its state anew into the new one.
func (a *Agent) LoseVolume(ctx context.Context, name string) error {
	p, err := a.find(name)
	if err != nil {
		return err
	}
	procs := p.processes()
	for _, proc := range procs {
		if err := proc.Pause(ctx); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	for _, dir := range p.claimDirs() {
		if err := empty(dir); err != nil {
			return fmt.Errorf("empty volume of %s: %w", name, err)
		}
	}
	for _, proc := range procs {
		if err := proc.Kill(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Name is the pod's namespace and name.
func (a *Agent) Name(name string) (namespace, pod string, err error) {
	p, err := a.find(name)
	if err != nil {
		return "", "", err
	}
	namespace, pod, _ = strings.Cut(p.key, "/")
	return namespace, pod, nil
}

// ControlSocket is the one that Container.ControlSocket named to the pod's
// newest incarnation.
func (a *Agent) ControlSocket(name string) (string, error) {
	p, err := a.find(name)
	if err != nil {
		return "", err
	}
	return Container{Dir: p.dir}.ControlSocket(), nil
}

// empty replaces dir by an empty one; files that are open stay with the old.
func empty(dir string) error {
	lost := dir + "-lost-" + string(uuid.NewUUID())
	if err := os.Rename(dir, lost); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	return os.RemoveAll(lost)
}

// each does it to all of the pod's processes, whatever comes of the others.
func (a *Agent) each(name string, do func(*process.Process) error) error {
	procs, err := a.processes(name)
	if err != nil {
		return err
	}
	for _, p := range procs {
		err = errors.Join(err, do(p))
	}
	return err
}

// processes are at least one: a fault on nothing would pass unnoticed.
func (a *Agent) processes(name string) ([]*process.Process, error) {
	p, err := a.find(name)
	if err != nil {
		return nil, err
	}
	procs := p.processes()
	if len(procs) == 0 {
		return nil, fmt.Errorf("pod %s: %w", name, errNoProcess)
	}
	return procs, nil
}

// find is the newest incarnation of the pod.
func (a *Agent) find(name string) (*pod, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found *pod
	for _, p := range a.pods {
		if p.key != name && !strings.HasSuffix(p.key, "/"+name) {
			continue
		}
		if found != nil && found.key != p.key {
			return nil, fmt.Errorf("pod %s: both %s and %s", name, found.key, p.key)
		}
		if found == nil || p.started.After(found.started) {
			found = p
		}
	}
	if found == nil {
		return nil, fmt.Errorf("pod %s: not on any node", name)
	}
	return found, nil
}
