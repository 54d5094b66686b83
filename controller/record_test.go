package controller

import (
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph"
)

func topology() memgraph.Topology {
	return memgraph.Topology{
		Main:       memgraph.Member{Pod: "mg-1", Index: 1, UID: "uid-1", IP: "10.0.0.1", RunID: "run-1", Database: "db-1"},
		Partner:    memgraph.Member{Pod: "mg-0", Index: 0, UID: "uid-0", IP: "10.0.0.0", RunID: "run-0", Database: "db-0"},
		Generation: 8, Phase: memgraph.Stable, InSync: true,
		History: []memgraph.Change{{
			When: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Generation: 8, Kind: "failover",
			From: "mg-0", To: "mg-1", Reason: "because", Stages: map[string]float64{"promoted": 3.5}, Leader: "a",
		}},
	}
}

func changing() memgraph.Topology {
	t := topology()
	t.Pending = &memgraph.Pending{From: t.Partner, Kind: "failover", Reason: "because", Started: t.History[0].When}
	t.Partner, t.InSync, t.Phase = memgraph.Member{}, false, memgraph.FailingOver
	return t
}

// data is t as a ConfigMap holds it.
func data(t *testing.T, topology memgraph.Topology) map[string]string {
	t.Helper()
	encoded, err := encodeRecord(topology)
	require.NoError(t, err)
	out := map[string]string{}
	for key, value := range encoded {
		if value != nil {
			out[key] = *value
		}
	}
	return out
}

// spokenTo is a record in which operators have left all that they can.
func spokenTo() memgraph.Topology {
	t := changing()
	at := t.History[0].When
	order := memgraph.Order{Verb: memgraph.OrderFailover, Argument: "mg-1", Request: "r"}
	t.Pending.Order, t.Pending.EstimatedLoss = &order, "unknown"
	t.Paused = &memgraph.Pause{Reason: "upgrade", Since: at}
	t.Acknowledged = at.Add(time.Nanosecond)
	return t.WithAnswer(memgraph.Answer{Order: order, Outcome: memgraph.OutcomeAccepted, Reason: "because", When: at})
}

func TestARecordSurvivesARoundTrip(t *testing.T) {
	old := topology() // of a version that does not tell of databases
	old.Main.Database, old.Partner.Database = "", ""
	for _, want := range []memgraph.Topology{topology(), changing(), spokenTo(), condemned("mg-2"), old} {
		got, err := decodeRecord(testSet, data(t, want))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
}

func TestADamagedRecordNamesTheKeyAndKeepsTheGeneration(t *testing.T) {
	for name, c := range map[string]struct {
		key, value string
		generation int64
	}{
		"an index that is no number":       {keyMainIndex, "one", 8},
		"a missing index":                  {keyMainIndex, "", 8},
		"an index below zero":              {keyMainIndex, "-1", 8},
		"MAIN without a UID":               {keyMainUID, "", 8},
		"MAIN without an address":          {keyMainIP, "", 8},
		"MAIN without a process":           {keyMainRunID, "", 8},
		"a partner without a UID":          {keyPartnerUID, "", 8},
		"a partner without an address":     {keyPartnerIP, "", 8},
		"a partner without a process":      {keyPartnerRunID, "", 8},
		"a generation that is no number":   {keyGeneration, "many", 0},
		"a generation beyond all reason":   {keyGeneration, "9223372036854775807", 0},
		"a generation below zero":          {keyGeneration, "-3", 0},
		"a phase that nobody knows":        {keyPhase, "Resting", 8},
		"a partner that is no number":      {keyPartnerIndex, "x", 8},
		"in sync, maybe":                   {keyInSync, "maybe", 8},
		"a history that is no JSON":        {keyHistory, "[", 8},
		"an order that is no JSON":         {keyReseed, "[", 8},
		"a pending change in a stable one": {keyPending, "{}", 8},
		"answers that are no JSON":         {keyAnswers, "{", 8},
		"acknowledged at no time":          {keyAcknowledged, "once", 8},
	} {
		t.Run(name, func(t *testing.T) {
			d := data(t, topology())
			d[c.key] = c.value
			got, err := decodeRecord(testSet, d)
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.key)
			assert.Equal(t, memgraph.Topology{Generation: c.generation}, got, "nothing of a damaged record is used")
		})
	}
	_, err := decodeRecord(testSet, nil)
	assert.Error(t, err)
}

func TestAnInvalidRecordIsNotWritten(t *testing.T) {
	broken := topology()
	broken.Partner = broken.Main
	_, err := encodeRecord(broken)
	assert.ErrorContains(t, err, "partner")
}

func newStore(t *testing.T) *configMapStore {
	t.Helper()
	cs, _ := newClientset()
	return &configMapStore{configMaps: cs.CoreV1().ConfigMaps(testNamespace), statefulSet: testSet}
}

func TestTheStoreComparesAndSets(t *testing.T) {
	s := newStore(t)
	none, err := s.Load(t.Context())
	require.NoError(t, err)
	assert.Zero(t, none)

	first, err := s.Put(t.Context(), topology())
	require.NoError(t, err)
	assert.NotEmpty(t, first.Revision)
	_, err = s.Put(t.Context(), topology())
	require.ErrorIs(t, err, ErrConflict, "it exists by now")

	next := first
	next.Generation, next.InSync = 9, false
	second, err := s.Put(t.Context(), next)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), next)
	require.ErrorIs(t, err, ErrConflict, "it has changed since it was read")

	got, err := s.Load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, second, got)
}

func TestARecordThatIsDeletedMeanwhileIsAConflict(t *testing.T) {
	s := newStore(t)
	first, err := s.Put(t.Context(), topology())
	require.NoError(t, err)
	require.NoError(t, s.configMaps.Delete(t.Context(), RecordName(testSet), metav1.DeleteOptions{}))
	_, err = s.Put(t.Context(), first)
	assert.ErrorIs(t, err, ErrConflict)
}

func TestKeysThatNoLongerHoldAreRemovedAndThoseOfOthersStay(t *testing.T) {
	s := newStore(t)
	first, err := s.Put(t.Context(), changing())
	require.NoError(t, err)
	cm, err := s.configMaps.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
	require.NoError(t, err)
	cm.Labels["team"], cm.Data["note"] = "graph", "hands off"
	cm, err = s.configMaps.Update(t.Context(), cm, metav1.UpdateOptions{})
	require.NoError(t, err)

	settled := topology()
	settled.Revision = cm.ResourceVersion
	require.NotEqual(t, first.Revision, settled.Revision)
	_, err = s.Put(t.Context(), settled)
	require.NoError(t, err)
	cm, err = s.configMaps.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
	require.NoError(t, err)
	want := data(t, settled)
	want["note"] = "hands off"
	assert.Equal(t, want, maps.Clone(cm.Data))
	assert.Equal(t, "graph", cm.Labels["team"])
}

// An uninstall must not delete the truth with what is uninstalled.
func TestNothingOwnsTheRecord(t *testing.T) {
	s := newStore(t)
	written := changing()
	for range 2 {
		var err error
		written, err = s.Put(t.Context(), written)
		require.NoError(t, err)
		cm, err := s.configMaps.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
		require.NoError(t, err)
		assert.Empty(t, cm.OwnerReferences)
	}
}

func TestAnOrderStandsUntilARecordAnswersIt(t *testing.T) {
	s := newStore(t)
	first, err := s.Put(t.Context(), topology())
	require.NoError(t, err)
	order := memgraph.Order{Verb: memgraph.OrderSwitchover, Request: "r"}
	require.NoError(t, s.order(t.Context(), first.Revision, &order))
	require.ErrorIs(t, s.order(t.Context(), first.Revision, nil), ErrConflict)
	_, err = s.Put(t.Context(), first)
	require.ErrorIs(t, err, ErrConflict, "it was decided on before there was an order")

	read, err := s.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, &order, read.Order)
	kept, err := s.Put(t.Context(), read)
	require.NoError(t, err)
	read, err = s.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, kept, read, "a write that does not answer it leaves it")

	answered, err := s.Put(t.Context(), read.WithAnswer(memgraph.Answer{Order: order, Outcome: memgraph.OutcomeRefused}))
	require.NoError(t, err)
	read, err = s.Load(t.Context())
	require.NoError(t, err)
	assert.Nil(t, read.Order)
	assert.Equal(t, answered, read)
}

func TestADamagedRecordKeepsWhatOperatorsSaid(t *testing.T) {
	s := newStore(t)
	spoken := spokenTo()
	first, err := s.Put(t.Context(), spoken)
	require.NoError(t, err)
	order := memgraph.Order{Verb: memgraph.OrderPause, Argument: "why"}
	require.NoError(t, s.order(t.Context(), first.Revision, &order))
	cm, err := s.configMaps.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
	require.NoError(t, err)
	cm.Data[keyPhase] = "?"
	cm, err = s.configMaps.Update(t.Context(), cm, metav1.UpdateOptions{})
	require.NoError(t, err)
	got, err := s.Load(t.Context())
	require.ErrorIs(t, err, ErrDamaged)
	assert.Equal(t, memgraph.Topology{Revision: cm.ResourceVersion, Order: &order, Paused: spoken.Paused}, got.Said())
}

func TestADamagedRecordIsToldFromNone(t *testing.T) {
	s := newStore(t)
	_, err := s.Put(t.Context(), topology())
	require.NoError(t, err)
	cm, err := s.configMaps.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
	require.NoError(t, err)
	cm.Data[keyMainIndex] = "?"
	cm, err = s.configMaps.Update(t.Context(), cm, metav1.UpdateOptions{})
	require.NoError(t, err)

	got, err := s.Load(t.Context())
	require.ErrorIs(t, err, ErrDamaged)
	assert.Equal(t, memgraph.Topology{Generation: 8, Revision: cm.ResourceVersion}, got)
}

func TestTheNewestRecordWinsHoweverItArrives(t *testing.T) {
	at := func(generation int64, revision string) memgraph.Topology {
		return memgraph.Topology{Generation: generation, Revision: revision}
	}
	var r recordCache
	assert.True(t, r.offer(at(1, "9")))
	assert.False(t, r.offer(at(1, "9")), "the same again")
	assert.False(t, r.offer(at(1, "8")), "an echo of an earlier write")
	assert.True(t, r.offer(at(1, "10")), "versions are numbers")
	assert.True(t, r.offer(at(3, "20")))
	assert.False(t, r.offer(at(2, "30")), "a generation never goes back")
	assert.Equal(t, at(3, "20"), r.latest())
	r.raise(5)
	assert.Equal(t, int64(5), r.highest())
	assert.False(t, r.offer(at(4, "40")))
	assert.True(t, r.offer(at(6, "41")))
}
