package e2e

import (
	"fmt"

	"memgraph-controller/controller"
	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
)

// Status is what a controller replica tells of itself.
type Status struct {
	controller.Status
	Gateway gateway.Status `json:"gateway"`
	// Pod and Addr are where it was asked, Addr of its gateway.
	Pod, Addr string `json:"-"`
}

// pod is what a leader knows of that pod, zero if it does not exist.
func (s Status) pod(name string) controller.StatusPod {
	for _, p := range s.Pods {
		if p.Name == name {
			return p
		}
	}
	return controller.StatusPod{}
}

func leader(controllers []Status) Status {
	for _, s := range controllers {
		if s.Leading {
			return s
		}
	}
	return Status{}
}

// incomplete tells what is missing for a whole cluster; nil if nothing is.
func incomplete(controllers []Status) error {
	if len(controllers) != 2 {
		return fmt.Errorf("%d controllers are ready", len(controllers))
	}
	for _, s := range controllers {
		if s.Gateway.State != gateway.Serving || s.Gateway.Generation != s.Record.Generation {
			return fmt.Errorf("gateway of %s is %s in generation %d of %d", s.Pod, s.Gateway.State, s.Gateway.Generation, s.Record.Generation)
		}
	}
	s := leader(controllers)
	if !s.Leading || !s.Record.InSync || len(s.Pods) != s.Wanted || s.Record.Reseed != nil {
		return fmt.Errorf("leading %v, in sync %v, %d pods of %d: %s", s.Leading, s.Record.InSync, len(s.Pods), s.Wanted, s.Reason)
	}
	for _, p := range s.Pods {
		if !p.Ready || p.Terminating || p.Name != s.Record.Main && !follows(p) {
			return fmt.Errorf("%s: ready %v, terminating %v, listed as %s %s, %d behind", p.Name, p.Ready, p.Terminating, p.Mode, p.Replication, p.Behind)
		}
		if !p.Replicated {
			return fmt.Errorf("%s: its readiness gate is closed", p.Name)
		}
	}
	return nil
}

// follows holds for a replica that MAIN lists as in step.
func follows(p controller.StatusPod) bool {
	return p.Replication == memgraph.StatusReady && p.Behind == 0
}
