package controller

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// gated gives every pod the readiness gate.
func (l *lab) gated() {
	for i := range 3 {
		l.updatePod(i, func(p *corev1.Pod) {
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: ReplicatedCondition}}
		})
	}
}

// gates are the conditions of all pods, by ordinal, as "status reason".
func (l *lab) gates() (gates []string) {
	l.t.Helper()
	for i := range 3 {
		pod, err := l.cs.CoreV1().Pods(testNamespace).Get(l.t.Context(), memgraph.PodName(testSet, i), metav1.GetOptions{})
		if err != nil {
			gates = append(gates, "gone")
			continue
		}
		c := conditionOf(pod, ReplicatedCondition)
		assert.Len(l.t, pod.Status.Conditions, 1+len(c.Type)/len(ReplicatedCondition), "the kubelet's stay")
		gates = append(gates, string(c.Status)+" "+c.Reason)
	}
	return gates
}

// listed has pod 0, MAIN, list that replica with another status.
func (l *lab) listed(name string, status memgraph.ReplicaStatus) {
	l.fleet.with(0, func(i *instance) {
		for k := range i.replicas {
			if i.replicas[k].Name == name {
				i.replicas[k].Status = status
			}
		}
	})
}

// gatePatches counts the writes to pods so far.
func (l *lab) gatePatches() (n int) {
	for _, a := range l.cs.Actions() {
		if a.Matches("patch", "pods/status") {
			n++
		}
	}
	return n
}

func TestGatesOpenOnceRedundancyIsThere(t *testing.T) {
	inLab(t, func(l *lab) {
		l.gated()
		l.cs.PrependReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, nil // a replica that obeys nobody is evicted; this one takes its time
		})
		c, stop := l.start("a")
		defer stop()
		l.settled()
		assert.Equal(t, []string{"True Main", "True InSync", "True CaughtUp"}, l.gates())

		writes := l.gatePatches()
		<-time.After(time.Minute)
		assert.Equal(t, writes, l.gatePatches(), "nothing changes, and nothing is written")

		l.listed("mg_2", memgraph.StatusInvalid)
		<-time.After(3 * time.Second)
		assert.Equal(t, "True CaughtUp", l.gates()[2], "it may be invalid for a moment under load")
		<-time.After(4 * time.Second)
		assert.Equal(t, []string{"True Main", "True InSync", "False Behind"}, l.gates())
		assert.False(t, c.Status().Pods[2].Replicated)
	})
}

func TestGatesCloseWhileMainIsUnprotected(t *testing.T) {
	inLab(t, func(l *lab) {
		l.gated()
		c, stop := l.start("a")
		l.settled()
		assert.Zero(t, value(t, c.metrics.lacking))
		l.listed("mg_2", memgraph.StatusInvalid) // so nobody can stand in
		l.lose(1)
		<-time.After(time.Second)
		assert.Equal(t, []string{"True Main", "gone", "False MainUnprotected"}, l.gates())
		assert.Equal(t, 2.0, value(t, c.metrics.lacking))
		stop()
		assert.Zero(t, value(t, c.metrics.lacking), "the next leader's to say")
	})
}

func TestGatesOutliveTheirLeader(t *testing.T) {
	inLab(t, func(l *lab) {
		l.gated()
		_, stop := l.start("a")
		l.settled()
		stop()
		writes := l.gatePatches()
		_, stop = l.start("b")
		defer stop()
		l.settled()
		assert.Equal(t, writes, l.gatePatches())
		assert.Equal(t, []string{"True Main", "True InSync", "True CaughtUp"}, l.gates())
	})
}

func TestPodsWithoutAGateAreLeftAlone(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		assert.Zero(t, l.gatePatches())
	})
}

func TestAGateThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"an error":                {errors.New("away"), "True InSync"},
		"another pod of the name": {apierrors.NewConflict(corev1.Resource("pods"), "mg-1", nil), "True InSync"},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.gated()
				failures := 3
				l.api.intercept(func(a clienttesting.Action) error {
					if failures > 0 && a.Matches("patch", "pods/status") {
						failures--
						return c.err
					}
					return nil
				})
				_, stop := l.start("a")
				defer stop()
				l.settled()
				require.Zero(t, failures)
				assert.Equal(t, c.want, l.gates()[1])
			})
		})
	}
}
