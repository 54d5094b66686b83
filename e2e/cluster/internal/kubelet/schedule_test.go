package kubelet

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestPlaceSpreads(t *testing.T) {
	nodes := []*node{{name: "node-1"}, {name: "node-2"}, {name: "node-3"}}
	pod := func(uid, owner string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			UID: types.UID(uid), OwnerReferences: []metav1.OwnerReference{{UID: types.UID(owner), Controller: new(true)}},
		}}
	}
	ending := pod("1", "db")
	ending.DeletionTimestamp = new(metav1.Now())
	for _, c := range []struct {
		name   string
		pods   []*corev1.Pod
		placed map[types.UID]string
		want   string
	}{
		{"nothing yet", nil, nil, "node-1"},
		{"a sibling", []*corev1.Pod{pod("1", "db")}, map[types.UID]string{"1": "node-1"}, "node-2"},
		{"a stranger", []*corev1.Pod{pod("1", "web")}, map[types.UID]string{"1": "node-1"}, "node-2"},
		{"a sibling that ends", []*corev1.Pod{ending}, map[types.UID]string{"1": "node-1"}, "node-1"},
		{
			"siblings count more than strangers",
			[]*corev1.Pod{pod("1", "db"), pod("2", "db"), pod("3", "web"), pod("4", "web")},
			map[types.UID]string{"1": "node-1", "2": "node-2", "3": "node-3", "4": "node-3"},
			"node-3",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, place(pod("new", "db"), nodes, c.pods, c.placed))
		})
	}
}

func TestAddressesComeInTurn(t *testing.T) {
	a := newAddresses("127.0.7")
	seen := map[string]bool{}
	for i := range lastPod - firstPod + 1 {
		ip, err := a.take()
		require.NoError(t, err)
		assert.False(t, seen[ip], "%s twice", ip)
		seen[ip] = true
		if i == 0 {
			assert.Equal(t, "127.0.7.10", ip)
		}
	}
	_, err := a.take()
	require.Error(t, err)
	a.release("127.0.7.20")
	ip, err := a.take()
	require.NoError(t, err)
	assert.Equal(t, "127.0.7.20", ip)
}
