package gateway

import (
	"cmp"
	"errors"
	"io"
	"sync"
)

// countEvery is after how many bytes at the latest a relay adds them to its
// counters: large enough not to be felt, small enough to see a load move.
const countEvery = 1 << 20

// relay carries bytes both ways until both sides have ended, handing on the end
// of one side to the other, or until either breaks. Closing is its caller's.
// moved is called from two goroutines.
func relay(client, backend *socket, moved func(direction, int64)) error {
	ends := make(chan error, 2)
	var pumps sync.WaitGroup
	pumps.Go(func() {
		ends <- pump(client, backend, func(n int64) { moved(toClient, n) })
	})
	ends <- pump(backend, client, func(n int64) { moved(toMain, n) })
	pumps.Wait()
	return cmp.Or(<-ends, <-ends)
}

// pump copies src to dst up to src's end, which it hands on. Where either side
// breaks it closes both, so that the pump of the other direction ends too.
// Linux splices between the two, as long as nothing wraps them.
func pump(dst, src *socket, moved func(int64)) error {
	for {
		n, err := io.CopyN(dst.Conn, src.Conn, countEvery)
		moved(n)
		if errors.Is(err, io.EOF) {
			err = dst.CloseWrite()
			if err == nil {
				return nil
			}
		}
		if err != nil {
			_, _ = dst.Close(), src.Close()
			return err
		}
	}
}
