package graph

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func state(i int) *State {
	return &State{Labels: []string{"N"}, Props: map[string]any{"i": int64(i)}}
}

// contents is what t sees: the value of i by node.
func contents(t *Tx) map[int64]any {
	m := map[int64]any{}
	for _, n := range t.Nodes("") {
		m[n.ID] = t.State(n).Props["i"]
	}
	return m
}

func now(s *Store) map[int64]any {
	t := s.Begin()
	defer t.Rollback()
	return contents(t)
}

func TestATransactionSeesItsBeginningAndItself(t *testing.T) {
	s := New()
	before := s.Begin()
	writer := s.Begin()
	n := writer.Create(state(1))
	assert.Equal(t, map[int64]any{0: int64(1)}, contents(writer), "its own write")
	assert.Empty(t, now(s), "not committed")
	writer.Commit()
	assert.Empty(t, contents(before), "invariant 1: committed after it began")
	assert.Equal(t, map[int64]any{0: int64(1)}, now(s))

	reader := s.Begin()
	writer = s.Begin()
	require.NoError(t, writer.SetProps(n, map[string]any{"i": int64(2)}))
	writer.Commit()
	deleter := s.Begin()
	require.NoError(t, deleter.Delete(n))
	assert.Empty(t, contents(deleter), "its own deletion")
	deleter.Commit()
	assert.Equal(t, map[int64]any{0: int64(1)}, contents(reader), "two commits later")
	assert.Empty(t, now(s))
	before.Rollback()
	reader.Rollback()
	assert.Empty(t, s.nodes, "invariant 3")
}

func TestConflicts(t *testing.T) {
	s := New()
	creator := s.Begin()
	n := creator.Create(state(1))
	creator.Commit()

	first, second := s.Begin(), s.Begin()
	require.NoError(t, first.SetProps(n, map[string]any{"i": int64(2)}))
	assert.ErrorIs(t, second.Delete(n), ErrConflict, "invariant 2: the other is open")
	first.Commit()
	assert.ErrorIs(t, second.Delete(n), ErrConflict, "the other committed after this one began")
	second.Rollback()

	third := s.Begin()
	require.NoError(t, third.SetProps(n, map[string]any{"i": int64(3)}))
	third.Rollback()
	fourth := s.Begin()
	assert.NoError(t, fourth.Delete(n), "the other rolled back")
	assert.ErrorIs(t, s.Apply([]Write{{ID: n.ID, State: state(9)}}), ErrConflict)
	fourth.Rollback()
	assert.Equal(t, map[int64]any{0: int64(2)}, now(s))
}

// Random transactions, up to four open at once, against a copy that gets their
// writes only.
func TestACopyFollows(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s, replica := New(), New()
	var open []*Tx
	for range 3000 {
		if len(open) < 4 && r.IntN(2) == 0 {
			open = append(open, s.Begin())
		}
		if len(open) == 0 {
			continue
		}
		k := r.IntN(len(open))
		tx := open[k]
		switch alive := tx.Nodes("N"); {
		case r.IntN(3) == 0:
			writes := tx.Writes()
			tx.Commit()
			require.NoError(t, replica.Apply(writes))
			open = append(open[:k], open[k+1:]...)
		case r.IntN(8) == 0:
			tx.Rollback()
			open = append(open[:k], open[k+1:]...)
		case len(alive) < 5 || r.IntN(3) == 0:
			tx.Create(state(r.Int()))
		case r.IntN(2) == 0:
			_ = tx.SetProps(alive[r.IntN(len(alive))], state(r.Int()).Props)
		default:
			_ = tx.Delete(alive[r.IntN(len(alive))])
		}
	}
	for _, tx := range open {
		tx.Rollback()
	}
	assert.Equal(t, now(s), now(replica), "invariant 4")
	assert.Len(t, s.nodes, s.Len(), "invariant 3")
	assert.Empty(t, s.lingers, "invariant 3")
	for _, n := range s.nodes {
		require.Nil(t, n.head.prev, "invariant 3")
	}
}

func TestReplaceForgetsEverything(t *testing.T) {
	s := New()
	for i := range 3 {
		tx := s.Begin()
		tx.Create(state(i))
		tx.Commit()
	}
	open := s.Begin()
	open.Create(state(7))
	s.Replace([]Write{{ID: 5, State: state(50)}})
	assert.Equal(t, map[int64]any{5: int64(50)}, now(s))
	open.Rollback()
	tx := s.Begin()
	assert.Equal(t, int64(6), tx.Create(state(60)).ID, "identities go on after the highest")
	tx.Commit()
}

func TestDeletedNodesLeaveNothing(t *testing.T) {
	s := New()
	for range 3 * compactAfter {
		tx := s.Begin()
		n := tx.Create(state(1))
		require.NoError(t, tx.Delete(n))
		assert.True(t, tx.Wrote())
		tx.Commit()
	}
	assert.Empty(t, s.nodes)
	assert.LessOrEqual(t, len(s.all), compactAfter+1)
	assert.LessOrEqual(t, len(s.labels["N"]), compactAfter+1)
}
