package gateway

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// bufferSize, in bytes, is what one read takes at most, and the largest message
// that is held back until it is whole. Larger buffers were no faster.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// intake reads from a connection, and holds a buffer only while there is
// something in it: an idle connection costs none.
type intake struct {
	raw      syscall.RawConn
	buf      *[bufferSize]byte // nil while empty
	from, to int               // what is unread of it
	err      error             // of the last read
	read     func(fd uintptr) bool
}

func newIntake(c *net.TCPConn) (*intake, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	i := &intake{raw: raw}
	i.read = i.tryRead // bound once, for fill not to allocate
	return i, nil
}

// unread is what was read and not dropped. It is valid until the next fill.
func (i *intake) unread() []byte {
	if i.buf == nil {
		return nil
	}
	return i.buf[i.from:i.to]
}

// drop says that n bytes have been dealt with.
func (i *intake) drop(n int) {
	if i.from += n; i.from == i.to {
		i.close()
	}
}

// full reports whether fill cannot add anything.
func (i *intake) full() bool { return i.to-i.from == bufferSize }

// push adds bytes that were read by other means; there are few of them.
func (i *intake) push(b []byte) {
	if len(b) > 0 {
		i.makeRoom()
		i.to += copy(i.buf[i.to:], b)
	}
}

// fill waits for more, and returns io.EOF at the end of the stream. It must not
// be called when full.
func (i *intake) fill() error {
	i.err = nil
	if err := i.raw.Read(i.read); err != nil {
		return err
	}
	return i.err
}

// tryRead is called whenever the socket may have something; false waits on.
func (i *intake) tryRead(fd uintptr) bool {
	i.makeRoom()
	n, err := syscall.Read(int(fd), i.buf[i.to:])
	switch {
	case errors.Is(err, syscall.EAGAIN):
		i.drop(0)
		return false
	case errors.Is(err, syscall.EINTR):
		return i.tryRead(fd)
	case err != nil:
		i.err = err
	case n == 0:
		i.err = io.EOF
	default:
		i.to += n
	}
	i.drop(0)
	return true
}

// makeRoom has a buffer in place, with what is unread at its front.
func (i *intake) makeRoom() {
	if i.buf == nil {
		i.buf = buffers.Get().(*[bufferSize]byte)
	} else if i.from > 0 {
		i.to = copy(i.buf[:], i.buf[i.from:i.to])
		i.from = 0
	}
}

// close gives the buffer back, with whatever was unread.
func (i *intake) close() {
	if i.buf != nil {
		buffers.Put(i.buf)
		i.buf = nil
	}
	i.from, i.to = 0, 0
}
