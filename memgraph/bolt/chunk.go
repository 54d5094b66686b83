package bolt

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// maxChunk is the largest chunk that the two-byte header can announce. Memgraph
// and the Go driver cut at the same size.
const maxChunk = 0xFFFF

// ErrTooLarge says that a message is larger than its Reader's limit.
var ErrTooLarge = errors.New("bolt message over the size limit")

// Reader takes messages out of chunks. It is not safe for concurrent use.
type Reader struct {
	r     *bufio.Reader
	limit int
	buf   []byte
	head  [2]byte // of the present chunk; here, for reading it to allocate nothing
}

// NewReader reads from r and refuses messages over limit bytes; no limit if 0.
func NewReader(r io.Reader, limit int) *Reader {
	return &Reader{r: bufio.NewReader(r), limit: limit}
}

// ReadMessage returns the next message's payload, valid until the next call. A
// NOOP (an empty message) comes as a payload of length 0. It returns io.EOF at
// the end of the stream between messages, io.ErrUnexpectedEOF inside one, and
// ErrTooLarge before the message that is over the limit was read whole.
func (r *Reader) ReadMessage() ([]byte, error) {
	r.buf = r.buf[:0]
	for first := true; ; first = false {
		size, err := r.chunkSize(first)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			return r.buf, nil
		}
		have := len(r.buf)
		if r.limit > 0 && have+size > r.limit {
			return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, r.limit)
		}
		r.grow(have + size)
		if _, err := io.ReadFull(r.r, r.buf[have:]); err != nil {
			return nil, inside(err)
		}
	}
}

// Buffered is the number of bytes that have arrived and were not asked for yet.
func (r *Reader) Buffered() int { return r.r.Buffered() }

func (r *Reader) chunkSize(first bool) (int, error) {
	if _, err := io.ReadFull(r.r, r.head[:1]); err != nil {
		if first {
			return 0, err
		}
		return 0, inside(err)
	}
	if _, err := io.ReadFull(r.r, r.head[1:]); err != nil {
		return 0, inside(err)
	}
	return int(binary.BigEndian.Uint16(r.head[:])), nil
}

func (r *Reader) grow(n int) {
	if cap(r.buf) < n {
		r.buf = append(make([]byte, 0, max(n, 2*cap(r.buf))), r.buf...)
	}
	r.buf = r.buf[:n]
}

// inside turns an end of stream within a message into what it is.
func inside(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// AppendChunked adds a message's payload to b, cut into chunks and terminated.
func AppendChunked(b, payload []byte) []byte {
	for len(payload) > 0 {
		n := min(len(payload), maxChunk)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
		b = append(b, payload[:n]...)
		payload = payload[n:]
	}
	return append(b, 0, 0)
}
