package memgraph_test

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// watched begins a vigil, and returns the other end of its connection.
func watched(t *testing.T, ctx context.Context) (peer net.Conn, broke <-chan bool) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	result := make(chan bool, 1)
	go func() { result <- memgraph.Vigil(ctx, l.Addr().String()) }()
	peer, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	return peer, result
}

func TestAVigilEndsWithTheProcess(t *testing.T) {
	peer, broke := watched(t, t.Context())
	require.NoError(t, peer.Close())
	assert.True(t, <-broke)
}

func TestAVigilEndsWhenItIsCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, broke := watched(t, ctx)
	cancel()
	assert.False(t, <-broke)
}

func TestThereIsNoVigilWhereNobodyListens(t *testing.T) {
	assert.False(t, memgraph.Vigil(t.Context(), "127.0.0.1:1"))
}
