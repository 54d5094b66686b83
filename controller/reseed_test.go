package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// returnDiverged has pod 2 come back with commits that MAIN has not.
func (l *lab) returnDiverged() {
	l.t.Helper()
	l.lose(2)
	l.fleet.with(0, func(i *instance) {
		i.unlist("mg_2")
		i.register = refuse(memgraph.ErrDiverged)
	})
	synctest.Wait() // it is seen to be gone
	l.comeBack(2)
}

// uid is pod i's, "" if there is none.
func (l *lab) uid(i int) types.UID {
	l.t.Helper()
	pod, err := l.cs.CoreV1().Pods(testNamespace).Get(l.t.Context(), memgraph.PodName(testSet, i), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return ""
	}
	require.NoError(l.t, err)
	return pod.UID
}

func TestADivergedPodIsReplacedAndFollowsAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		l.settled()
		l.returnDiverged()
		ordered := l.within(2*time.Second, "an order", func(t memgraph.Topology) bool { return t.Reseed != nil })
		assert.Equal(t, memgraph.Reseed{
			Pod: "mg-2", UID: "uid-2b", Reason: "mg-2 has diverged from MAIN", Since: ordered.Reseed.Since,
		}, *ordered.Reseed)
		<-time.After(time.Second)
		assert.Empty(t, l.uid(2), "it is deleted, for another to come in its place")
		stop()

		_, stop = l.start("b")
		defer stop()
		<-time.After(time.Minute)
		assert.NotNil(t, l.record().Reseed, "the order outlives its leader, and waits for the pod")
		l.fleet.with(0, func(i *instance) { i.register = nil })
		l.fleet.with(2, func(i *instance) { i.vertices = 0 })
		l.comeBackAs(2, "uid-2c")
		healed := l.within(20*time.Second, "the order's end", func(t memgraph.Topology) bool { return t.Reseed == nil })
		assert.Equal(t, ordered.Generation, healed.Generation)
		assert.True(t, healed.InSync)
		assert.Equal(t, types.UID("uid-2c"), l.uid(2), "nothing else is deleted")
	})
}

func TestADivergedPodIsLeftToAnOperator(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		l.change = func(c *Config) { c.Policy.Reseed = memgraph.ReseedManual }
		c, stop := l.start("a")
		defer stop()
		l.settled()
		l.returnDiverged()
		<-time.After(time.Minute)
		assert.Nil(t, l.record().Reseed)
		assert.Equal(t, types.UID("uid-2b"), l.uid(2))
		assert.True(t, c.Status().Pods[2].Diverged)
	})
}

// The record is written before the pod is deleted: otherwise the next one would
// start with the same data.
func TestNoPodIsDeletedWithoutAnOrder(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		l.api.intercept(func(a clienttesting.Action) error {
			if a.Matches("patch", "configmaps") {
				return apierrors.NewServiceUnavailable("away")
			}
			return nil
		})
		l.returnDiverged()
		<-time.After(time.Minute)
		assert.Equal(t, types.UID("uid-2b"), l.uid(2))
	})
}

func TestACrashLoopIsReseeded(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		l.fleet.with(2, func(i *instance) { i.err = memgraph.ErrRefused })
		for restarts := range int32(6) {
			l.updatePod(2, func(p *corev1.Pod) {
				p.Status.Conditions[0].Status = corev1.ConditionFalse
				p.Status.ContainerStatuses[0].RestartCount = restarts
			})
			<-time.After(time.Second)
			assert.Equal(t, restarts >= 5, l.record().Reseed != nil, "%d restarts", restarts)
		}
		assert.Empty(t, l.uid(2))
	})
}
