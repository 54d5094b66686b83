package memgraphtest

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// A storm of logins keeps even SHOW REPLICATION ROLE on an open session waiting:
// one password is checked at a time, and those that wait keep the workers.
func TestLoginsStarveOthers(t *testing.T) {
	const cost, clients = 40 * time.Millisecond, 8
	s := RunT(t, func(c *Config) { c.User, c.Password, c.LoginTime = "u", "secret", cost })
	open := dial(t, s, v43)
	hello := bolt.Hello{Extra: map[string]any{"user_agent": "t/1", "scheme": "basic", "principal": "u", "credentials": "secret"}}
	require.IsType(t, bolt.Success{}, open.ask(hello))
	var storm sync.WaitGroup
	began := time.Now()
	for range clients {
		w := dial(t, s, v43)
		storm.Go(func() { assert.IsType(t, bolt.Success{}, w.ask(hello)) })
	}
	waitFor(t, "the storm", func() bool { return s.running().desk.logins.Load() >= clients-1 })
	asked := time.Now()
	require.Nil(t, open.statement("SHOW REPLICATION ROLE").failure)
	assert.Greater(t, time.Since(asked), 2*cost, "it waits its turn")
	storm.Wait()
	assert.GreaterOrEqual(t, time.Since(began), clients*cost, "one at a time")
	assert.Equal(t, int64(clients+1), s.Counts().Logins)
}

// Before 3.8 a session that says nothing ends.
func TestInactivity(t *testing.T) {
	const patience = 50 * time.Millisecond
	old := RunT(t, func(c *Config) { c.Version, c.SessionInactivity = "3.7.2", patience })
	assert.Nil(t, login(t, old, v52).receive(), "closed without a word")
	s := RunT(t, func(c *Config) { c.SessionInactivity = patience })
	w := login(t, s, v52)
	<-time.After(2 * patience)
	assert.Nil(t, w.statement("RETURN 1").failure)
}

// Clients that shake no hands, or stop in the middle of a message, are neither
// answered nor in the way, and do not keep the process from ending.
func TestHalfOpenConnections(t *testing.T) {
	s := RunT(t)
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer conn.Close()
	w := login(t, s, v52)
	w.raw(0, 9, 0xB3)
	begun := login(t, s, v52)
	require.IsType(t, bolt.Success{}, begun.ask(bolt.Begin{}))
	require.NoError(t, begun.conn.Close())
	connect(t, s).must("RETURN 1")
	waitFor(t, "the abandoned session to end", func() bool { return s.Counts().Sessions == 2 })
	s.Terminate()
	_, err = w.reader.ReadMessage()
	assert.Error(t, err)
}

// Bolt 1 says the same in fewer words.
func TestBolt1(t *testing.T) {
	w := dial(t, RunT(t), bolt.Version{Major: 1})
	say := func(tag bolt.Tag, fields ...any) bolt.Message {
		payload, err := bolt.AppendValue(nil, bolt.Structure{Tag: byte(tag), Fields: fields})
		require.NoError(t, err)
		w.raw(bolt.AppendChunked(nil, payload)...)
		return w.receive()
	}
	none := map[string]any{}
	assert.Equal(t, greeting, say(bolt.TagHello, "old/1", map[string]any{"scheme": "none"}))
	assert.Equal(t, bolt.Success{Meta: map[string]any{"fields": []any{"1"}}}, say(bolt.TagRun, "RETURN 1", none))
	assert.Equal(t, bolt.Record{Values: []any{int64(1)}}, say(bolt.TagPull))
	assert.IsType(t, bolt.Success{}, w.receive())
	assert.IsType(t, bolt.Failure{}, say(bolt.TagRun, "garbage", none))
	assert.Equal(t, bolt.Ignored{}, say(bolt.TagPull))
	assert.Equal(t, empty, say(0x0E), "ACK_FAILURE")
	assert.IsType(t, bolt.Success{}, say(bolt.TagRun, "RETURN 1", none))
	assert.IsType(t, bolt.Success{}, say(bolt.TagDiscard))
	assert.Equal(t, protocolFailure, say(bolt.TagBegin, none), "there is none in Bolt 1")
	assert.Nil(t, w.receive())
}

// With a certificate Bolt speaks TLS, and plain Bolt is left without a byte.
func TestTLS(t *testing.T) {
	a := NewAuthority(t)
	cert, key := a.CertFile, a.KeyFile
	s := RunT(t, func(c *Config) { c.CertFile, c.KeyFile = cert, key })
	driver, err := neo4j.NewDriverWithContext("bolt+ssc://"+s.Addr(), neo4j.NoAuth(), func(c *config.Config) {
		c.TlsConfig = &tls.Config{MinVersion: tls.VersionTLS13}
	})
	require.NoError(t, err)
	defer driver.Close(t.Context())
	result, err := neo4j.ExecuteQuery(t.Context(), driver, "UNWIND range(1, 1000) AS i RETURN i", nil, neo4j.EagerResultTransformer)
	require.NoError(t, err)
	assert.Len(t, result.Records, 1000)

	plain, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer plain.Close()
	_, err = plain.Write(bolt.Propose(v52).Append(nil))
	require.NoError(t, err)
	n, err := plain.Read(make([]byte, 1))
	assert.Zero(t, n)
	assert.Error(t, err)

	for name, c := range map[string]Config{
		"no key":         {CertFile: cert},
		"no certificate": {KeyFile: key},
		"not a file":     {CertFile: t.TempDir(), KeyFile: key},
	} {
		c.DataDirectory = t.TempDir()
		broken, err := New(c)
		require.NoError(t, err)
		assert.ErrorContains(t, broken.Start(t.Context()), "load certificate", name)
	}
}
