package gateway

import (
	"errors"
	"sync"
	"syscall"
)

// Sizes of buffers, in bytes: what one read takes at most, and the largest
// message that is held back until it is whole. Results are larger than requests:
// with 256 KiB rows of 60 bytes took 0.80 to 0.92 of HAProxy's CPU time, with 64
// KiB 0.93 to 1.01.
const (
	bufferSize       = 64 << 10  // for requests
	answerBufferSize = 256 << 10 // for answers
)

var buffers, answerBuffers = pool(bufferSize), pool(answerBufferSize)

func pool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}
}

// intake reads from a connection, and holds a buffer only while there is
// something in it: an idle connection costs none.
type intake struct {
	conn     *socket
	raw      syscall.RawConn
	pool     *sync.Pool
	buf      *[]byte // from the pool; nil while empty
	from, to int     // what is unread of it
	pushed   []byte
	early    bool  // the last read was done by quiet
	err      error // of the last read
	read     func(fd uintptr) bool
}

func newIntake(c *socket, pool *sync.Pool) (*intake, error) {
	raw, err := c.tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	i := &intake{conn: c, raw: raw, pool: pool}
	i.read = i.tryRead // bound once, for fill not to allocate
	return i, nil
}

// unread is what was read and not dropped. It is valid until the next fill.
func (i *intake) unread() []byte {
	if i.buf == nil {
		return nil
	}
	return (*i.buf)[i.from:i.to]
}

// drop says that n bytes have been dealt with.
func (i *intake) drop(n int) {
	if i.from += n; i.from == i.to {
		i.close()
	}
}

// full reports whether fill cannot add anything.
func (i *intake) full() bool { return i.buf != nil && i.to-i.from == len(*i.buf) }

// push hands in bytes that were read by other means; fill brings them, so that
// what is unread stays where it is.
func (i *intake) push(b []byte) { i.pushed = append(i.pushed, b...) }

// fill waits for more, and returns io.EOF at the end of the stream. It must not
// be called when full.
func (i *intake) fill() error {
	if len(i.pushed) > 0 {
		i.makeRoom()
		n := copy((*i.buf)[i.to:], i.pushed)
		i.to, i.pushed = i.to+n, i.pushed[n:]
		return nil
	}
	if i.early {
		i.early = false
		return i.err
	}
	i.err = nil
	if err := i.raw.Read(i.read); err != nil {
		return err
	}
	return i.err
}

// quiet reports whether nothing has come, and the stream has not ended. What has
// come is there after the next fill.
func (i *intake) quiet() bool {
	if i.early || len(i.pushed) > 0 || len(i.unread()) > 0 {
		return false
	}
	i.err = nil
	err := i.raw.Control(func(fd uintptr) { i.early = i.tryRead(fd) })
	return err == nil && !i.early
}

// tryRead is called whenever the socket may have something; false waits on.
func (i *intake) tryRead(fd uintptr) bool {
	i.makeRoom()
	n, err := i.conn.readNow(fd, (*i.buf)[i.to:])
	i.to += n
	i.drop(0)
	if n == 0 && errors.Is(err, syscall.EAGAIN) {
		return false
	}
	if n == 0 {
		i.err = err
	}
	return true
}

// makeRoom has a buffer in place, with what is unread at its front.
func (i *intake) makeRoom() {
	if i.buf == nil {
		i.buf = i.pool.Get().(*[]byte)
	} else if i.from > 0 {
		i.to = copy(*i.buf, i.unread())
		i.from = 0
	}
}

// close gives the buffer back, with whatever was unread.
func (i *intake) close() {
	if i.buf != nil {
		i.pool.Put(i.buf)
		i.buf = nil
	}
	i.from, i.to = 0, 0
}
