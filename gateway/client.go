package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// refuseWithin is for a refusal as a whole, which takes a driver two round
// trips; a client that needs longer is not waiting for one.
const refuseWithin = 2 * time.Second

// maxHello bounds, in bytes, what is read of a refused client's login: drivers
// send well below 1 KiB, and a token may be larger.
const maxHello = 64 << 10

// opensTLS reports whether head begins with a record of type 22, as a ClientHello
// does.
func opensTLS(head []byte) bool { return len(head) > 0 && head[0] == 22 }

func isBolt(head []byte) bool { return bytes.HasPrefix(head, bolt.Magic[:]) }

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// refuse answers a client's handshake and its login, the latter with f, as a
// server would. A client that does not speak Bolt is told nothing. The caller
// closes the connection.
func refuse(client *socket, head []byte, f bolt.Failure) error {
	if !isBolt(head) {
		return nil
	}
	if err := client.SetDeadline(time.Now().Add(refuseWithin)); err != nil {
		return err
	}
	h, err := bolt.ParseHandshake([bolt.HandshakeSize]byte(head))
	if err != nil {
		return err
	}
	v, ok := h.Choose(bolt.Versions)
	if _, err := client.Write(v.Append(nil)); err != nil || !ok {
		return err
	}
	if _, err := bolt.NewReader(client, maxHello).ReadMessage(); err != nil {
		return fmt.Errorf("read hello: %w", err)
	}
	answer, err := bolt.AppendMessage(nil, f)
	if err != nil {
		return err
	}
	if _, err := client.Write(answer); err != nil {
		return err
	}
	return finish(client)
}

// finish waits for the peer to close. To close before all that it had sent was
// read would reset the connection, and take the last answer with it.
func finish(c *socket) error {
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}
