package gateway

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func startIntake(t *testing.T) (*intake, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	from, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	to, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = from.Close(), to.Close() })
	i, err := newIntake(newSocket(to.(*net.TCPConn)), buffers)
	require.NoError(t, err)
	return i, from.(*net.TCPConn)
}

func TestIntakeHoldsABufferOnlyWhileThereIsSomethingInIt(t *testing.T) {
	i, peer := startIntake(t)
	assert.Nil(t, i.buf)
	_, err := peer.Write([]byte("abc"))
	require.NoError(t, err)
	require.NoError(t, i.fill())
	assert.Equal(t, "abc", string(i.unread()))
	i.drop(1)
	assert.Equal(t, "bc", string(i.unread()))
	i.drop(2)
	assert.Nil(t, i.buf)
	require.NoError(t, peer.CloseWrite())
	assert.ErrorIs(t, i.fill(), io.EOF)
	assert.Nil(t, i.buf)
}

// A request that is being dealt with lies in the buffer while the session is
// parked, and a byte that comes meanwhile must neither move it nor be lost.
func TestWhatIsPushedLeavesAlone(t *testing.T) {
	i, peer := startIntake(t)
	sent := bytes.Repeat([]byte("x"), bufferSize)
	go func() { _, _ = peer.Write(sent) }()
	for !i.full() {
		require.NoError(t, i.fill())
	}
	message := i.unread()[:10]
	i.push([]byte("y"))
	assert.Equal(t, sent[:10], message)
	assert.Equal(t, sent, i.unread())
	i.drop(10)
	require.NoError(t, i.fill())
	assert.Equal(t, append(sent[10:], 'y'), i.unread())
	i.drop(len(i.unread()))
	i.close()
}
