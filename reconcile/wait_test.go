package reconcile

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph"
)

// By the policy to wait, no commit succeeds while the partner is lost: what MAIN
// ships to it by stays, whatever became of it.
func TestWritesWaitForALostPartnerWhereTheyAreTo(t *testing.T) {
	waiting := func(s *memgraph.Snapshot) { s.Policy.PartnerLoss = memgraph.LossWaits }
	back := func(change func(*memgraph.Instance)) edit {
		return pod(1, func(p *memgraph.Pod) { p.UID += "b"; p.Instance.RunID += "b"; change(&p.Instance) })
	}
	same := func(*memgraph.Instance) {}
	for name, c := range map[string]struct {
		s               memgraph.Snapshot
		degrades, waits []string
	}{
		"its pod is gone": {healthy(notInSync, gone(1), status(1, memgraph.StatusInvalid)),
			[]string{"drop mg_1"}, []string{}},
		"another pod is not ready yet": {healthy(notInSync, unready(1), back(same), reached(1, memgraph.Refused), status(1, memgraph.StatusInvalid)),
			[]string{"drop mg_1"}, []string{}},
		"another pod is back, and in step": {healthy(notInSync, back(same)),
			[]string{"drop mg_1", "register mg_1 async"}, []string{}},
		"another pod is back without its data": {healthy(notInSync, back(func(i *memgraph.Instance) { i.Role, i.Storage.Vertices = memgraph.RoleMain, 0 })),
			[]string{"demote mg_1", "drop mg_1", "register mg_1 async"}, []string{"demote mg_1", "drop mg_1", "register mg_1 strict_sync"}},
		"it is registered by another address": {healthy(notInSync, listed(1, func(r *memgraph.Replica) { r.Address = "10.0.0.99:10000"; r.Status = memgraph.StatusInvalid })),
			[]string{"drop mg_1", "register mg_1 async"}, []string{"drop mg_1", "register mg_1 strict_sync"}},
		"it was evicted, and its registration leads nowhere": {healthy(notInSync, unready(1), back(same), reached(1, memgraph.Refused), status(1, memgraph.StatusInvalid), evicted(1)),
			[]string{"drop mg_1"}, []string{"drop mg_1"}},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.degrades, words(Diff(c.s)), "by the policy to degrade")
			waiting(&c.s)
			assert.Equal(t, c.waits, words(Diff(c.s)))
		})
	}
}

func TestThePartnersModeIsThatOfThePolicy(t *testing.T) {
	old := instance(1, func(i *memgraph.Instance) { i.Version = memgraph.Version{Major: 3, Minor: 7} })
	unknown := instance(1, func(i *memgraph.Instance) { i.Version = memgraph.Version{} })
	for name, c := range map[string]struct {
		s      memgraph.Snapshot
		choice memgraph.SyncChoice
		want   memgraph.SyncMode
	}{
		"nothing said":                    {healthy(), "", memgraph.StrictSync},
		"by version, all new":             {healthy(), memgraph.ChooseByVersion, memgraph.StrictSync},
		"by version, one old":             {healthy(old), memgraph.ChooseByVersion, memgraph.Sync},
		"by version, one unknown":         {healthy(unknown), memgraph.ChooseByVersion, ""},
		"sync, all new":                   {healthy(), memgraph.ChooseSync, memgraph.Sync},
		"strict, one old":                 {healthy(old), memgraph.ChooseStrictSync, memgraph.StrictSync},
		"strict, nobody knows what it is": {healthy(unknown), memgraph.ChooseStrictSync, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.s.Policy.SyncChoice = c.choice
			mode, known := c.s.PartnerMode(c.s.Pods[0], c.s.Pods[1])
			assert.Equal(t, c.want, mode)
			assert.Equal(t, c.want != "", known)
		})
	}
}
