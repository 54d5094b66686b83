package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// order gives an order as the command does, and returns what that printed.
func (l *lab) order(verb memgraph.Verb, argument string) (printed string, err error) {
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	err = NewOperator(l.cs, testNamespace, testSet, &out).Order(ctx, verb, argument)
	return out.String(), err
}

// annotate does what kubectl annotate does.
func (l *lab) annotate(key, value string) {
	l.t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{key: value}}})
	require.NoError(l.t, err)
	_, err = l.cs.CoreV1().ConfigMaps(testNamespace).Patch(l.t.Context(), RecordName(testSet), types.MergePatchType, patch, metav1.PatchOptions{})
	require.NoError(l.t, err)
}

func TestASwitchoverIsToldStepByStep(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		printed, err := l.order(memgraph.OrderSwitchover, "")
		require.NoError(t, err)
		lines := strings.Split(strings.TrimSpace(printed), "\n")
		require.Len(t, lines, 3)
		assert.Contains(t, lines[0], "asked for switchover, request ")
		assert.Contains(t, lines[1], "accepted: "+before.Partner.Pod+" takes over from mg-0 in generation ")
		assert.Contains(t, lines[2], "done: "+before.Partner.Pod+" is MAIN in generation ")
		after := l.record()
		assert.Equal(t, before.Generation+1, after.Generation)
		assert.Equal(t, "mg-0", after.Partner.Pod)
		assert.Nil(t, after.Order)
	})
}

func TestARefusedOrderChangesNothing(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before, said := l.record(), len(l.fleet.statements(""))
		for verb, argument := range map[memgraph.Verb]string{memgraph.OrderSwitchover: "mg-0", memgraph.OrderFailover: before.Partner.Pod} {
			_, err := l.order(verb, argument)
			require.ErrorContains(t, err, "refused: ")
			require.NotErrorIs(t, err, ErrUnclear)
		}
		after := l.record()
		after.Answers, after.Revision = before.Answers, before.Revision
		assert.Equal(t, before, after)
		assert.Len(t, l.fleet.statements(""), said)
	})
}

func TestAnOrderByAnnotationIsOne(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		partner := l.record().Partner
		l.annotate("memgraph-controller/switchover", "")
		after := l.within(time.Second, "an answer", func(t memgraph.Topology) bool {
			return len(t.Answers) > 0 && t.Answers[0].Outcome == memgraph.OutcomeDone
		})
		assert.Equal(t, partner.Pod, after.Main.Pod)
		<-time.After(time.Minute)
		assert.Equal(t, after.Generation, l.record().Generation, "it is carried out once")
		cm, err := l.cs.CoreV1().ConfigMaps(testNamespace).Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotContains(t, cm.Annotations, "memgraph-controller/switchover")
	})
}

// What an operator may have lost is told, however fast it went, and kept.
func TestTheCostOfAForcedFailoverIsToldAndKept(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		other := 3 - before.Partner.Index
		l.fleet.with(0, func(i *instance) {
			for n := range i.replicas {
				if i.replicas[n].Name == fmt.Sprintf("mg_%d", other) {
					i.replicas[n].Behind = -25
				}
			}
		})
		<-time.After(2 * time.Second)
		l.lose(0)
		l.lose(before.Partner.Index)
		<-time.After(time.Second)
		printed, err := l.order(memgraph.OrderFailover, fmt.Sprintf("mg-%d", other))
		require.NoError(t, err)
		cost := "estimated loss: about 13 commits, and those of the "
		assert.Regexp(t, fmt.Sprintf("done: mg-%d is MAIN in generation %d: .*; %s", other, before.Generation+1, cost), printed)
		var out bytes.Buffer
		require.NoError(t, NewOperator(l.cs, testNamespace, testSet, &out).History(t.Context(), Table))
		assert.Contains(t, out.String(), "an operator asked for it; "+cost)
	})
}

func TestAPauseOutlastsALeaderAndADamagedRecord(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		l.settled()
		_, err := l.order(memgraph.OrderPause, "upgrade")
		require.NoError(t, err)
		stop()
		patch := []byte(`{"data": {"mainIndex": "?"}, "metadata": {}}`)
		_, err = l.cs.CoreV1().ConfigMaps(testNamespace).Patch(t.Context(), RecordName(testSet), types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(t, err)
		c, stop := l.start("b")
		defer stop()
		l.within(10*time.Second, "a record that was derived anew", func(t memgraph.Topology) bool { return t.Generation > 0 })
		l.settled()
		paused := l.record()
		l.lose(0)
		<-time.After(time.Minute)
		assert.Equal(t, paused.Main, l.record().Main)
		assert.Equal(t, "upgrade", c.Status().Record.Paused.Reason)
		assert.Contains(t, c.Status().Reason, "paused by an operator (upgrade), held back: failover")
	})
}

func TestAMainThatFailsOftenAwaitsAnOperator(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		l.maxFailovers = 1
		c, stop := l.start("a")
		defer stop()
		l.settled()
		l.lose(0)
		l.within(time.Second, "a failover", func(t memgraph.Topology) bool { return t.Main.Pod != "mg-0" && t.InSync })
		l.comeBack(0)
		l.settled()
		second := l.record().Main
		l.lose(second.Index)
		<-time.After(time.Minute)
		assert.Equal(t, second, l.record().Main)
		assert.Contains(t, c.Status().Reason, "MAIN failed 1 times within 10m0s: acknowledge with `memgraph-controller resume`")
		_, err := l.order(memgraph.OrderResume, "")
		require.NoError(t, err)
		l.within(5*time.Second, "another failover", func(t memgraph.Topology) bool { return t.Main.Pod != second.Pod && t.Phase == memgraph.Stable })
	})
}

func TestAnOrderThatNobodyTakesIsTakenBack(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		l.settled()
		stop()
		before := l.record()
		_, err := l.order(memgraph.OrderSwitchover, "")
		require.ErrorIs(t, err, ErrUnclear)
		require.ErrorContains(t, err, "nothing has changed")
		after := l.record()
		after.Revision = before.Revision
		assert.Equal(t, before, after)
	})
}

func TestOneOrderStandsAtATime(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		l.settled()
		stop()
		l.annotate("memgraph-controller/failover", "mg-2")
		_, err := l.order(memgraph.OrderSwitchover, "")
		require.ErrorContains(t, err, "another order is not answered yet: failover mg-2")
		l.annotate("memgraph-controller/pause", "")
		_, stop = l.start("b")
		defer stop()
		after := l.within(10*time.Second, "an answer", func(t memgraph.Topology) bool { return len(t.Answers) > 0 })
		assert.Equal(t, memgraph.OutcomeRefused, after.Answers[0].Outcome)
		assert.Contains(t, after.Answers[0].Reason, "one at a time")
	})
}

func TestWithoutARecordThereIsNothingToOrder(t *testing.T) {
	inLab(t, func(l *lab) {
		_, err := l.order(memgraph.OrderPause, "")
		require.ErrorContains(t, err, "there is no record of statefulset ns/mg yet")
	})
}

func TestStatusAndHistoryAreTables(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		next := l.record().Partner
		_, err := l.order(memgraph.OrderSwitchover, next.Pod)
		require.NoError(t, err)
		var out bytes.Buffer
		o := NewOperator(l.cs, testNamespace, testSet, &out)
		require.NoError(t, o.Status(t.Context()))
		assert.Regexp(t, `(?m)^leader: +a$`, out.String())
		assert.Regexp(t, `(?m)^main: +`+next.Pod+`$`, out.String())
		assert.Regexp(t, `(?m)^last order: +switchover `+next.Pod+`: done: `+next.Pod+` is MAIN`, out.String())
		assert.Regexp(t, `(?m)^`+next.Pod+` +`+next.IP+` .* main `, out.String())
		out.Reset()
		l.api.intercept(func(a clienttesting.Action) error {
			if a.GetResource().Resource == "leases" {
				return errors.New("no route to host")
			}
			return nil
		})
		<-time.After(Defaults.LeaseDuration + time.Second)
		require.NoError(t, o.Status(t.Context()))
		assert.Regexp(t, `(?m)^leader: +a, or nobody: its lease has run out, by the clock of this machine$`, out.String())
		out.Reset()
		require.NoError(t, o.History(t.Context(), Table))
		assert.Regexp(t, `(?m)^2000-\S+ +2 +switchover +mg-0 +`+next.Pod+` +\d+ms +an operator asked for it$`, out.String())
		out.Reset()
		require.NoError(t, o.History(t.Context(), JSON))
		var changes []memgraph.Change
		require.NoError(t, json.Unmarshal(out.Bytes(), &changes))
		assert.Equal(t, l.record().History, changes)
	})
}
