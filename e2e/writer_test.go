package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/memgraphtest"
)

func TestWriterTellsWhatItWasTold(t *testing.T) {
	server := memgraphtest.RunT(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := NewWriter(ctx, "name", server.Addr())
	require.NoError(t, err)
	defer w.Stop()
	first, err := w.FirstAck(ctx, time.Time{})
	require.NoError(t, err)
	assert.Equal(t, w.Acks()[0].At, first)
	second, err := w.FirstAck(ctx, first)
	require.NoError(t, err)
	assert.Equal(t, w.Acks()[1].At, second)

	server.Crash()
	for w.Errors()["connection lost"] == 0 { // one that is back at once may be missed by nobody
		require.NoError(t, Pause(ctx, time.Millisecond), "%v", w.Errors())
	}
	require.NoError(t, server.Start(ctx))
	_, err = w.FirstAck(ctx, time.Now())
	require.NoError(t, err)
	w.Stop()
	lost, err := w.Missing(ctx, server.Addr())
	require.NoError(t, err)
	assert.Empty(t, lost)
	server.Crash()
	require.NoError(t, server.Wipe())
	require.NoError(t, server.Start(ctx))
	lost, err = w.Missing(ctx, server.Addr())
	require.NoError(t, err)
	assert.Len(t, lost, len(w.Acks()))
}

func TestWriterIsNotTakenForAnother(t *testing.T) {
	server, elsewhere := memgraphtest.RunT(t), memgraphtest.RunT(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	written, err := NewWriter(ctx, "name", server.Addr())
	require.NoError(t, err)
	defer written.Stop()
	_, err = written.FirstAck(ctx, time.Time{})
	require.NoError(t, err)
	lost, err := NewWriter(ctx, "name", elsewhere.Addr())
	require.NoError(t, err)
	defer lost.Stop()
	_, err = lost.FirstAck(ctx, time.Time{})
	require.NoError(t, err)
	lost.Stop()
	missing, err := lost.Missing(ctx, server.Addr())
	require.NoError(t, err)
	assert.Len(t, missing, len(lost.Acks()), "the same name and numbers are not the same writes")
}

func TestErrorsAreSorted(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"the server's, by code and first sentence", &neo4j.Neo4jError{Code: "A.B.C", Msg: "Write queries are forbidden on the replica instance. Replica instances accept only read queries."}, "A.B.C: Write queries are forbidden on the replica instance"},
		{"a broken connection", &neo4j.ConnectivityError{Inner: errors.New("read tcp 127.0.0.1:1: reset")}, "connection lost"},
		{"a closed connection", fmt.Errorf("read: %w", io.EOF), "connection lost"},
		{"anything else", context.DeadlineExceeded, "context deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, describe(c.err)) })
	}
}

func TestPassageWaitsForTheProcess(t *testing.T) {
	server := memgraphtest.RunT(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	before := server.State().RunID
	begun := time.Now()
	reached, err := Passage(ctx, server.Addr(), before)
	require.NoError(t, err)
	assert.WithinRange(t, reached, begun, time.Now())

	server.Crash()
	require.NoError(t, server.Start(ctx))
	writers := []*Writer{{addr: server.Addr()}, {addr: server.Addr()}}
	_, err = Passages(ctx, writers, server.State().RunID)
	require.NoError(t, err)

	gone, forget := context.WithTimeout(ctx, 50*time.Millisecond)
	defer forget()
	_, err = Passages(gone, writers, before)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}
