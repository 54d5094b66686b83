package gateway

import (
	"os"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h, which package syscall has
// on some architectures only.
const tcpUserTimeout = 0x12

// backendUserTimeoutMs bounds, in milliseconds, for how long a relay to a
// silent pod lingers where nobody cuts it; without it, unacknowledged bytes are
// repeated for a quarter of an hour. Linux counts a full receive window too: it
// must be above the 30 s for which a commit waits for a hung SYNC replica,
// during which Memgraph reads nothing. (With 3 s, a write to a live peer that
// did not read ended after 3.5 s on Linux 6.18.)
const backendUserTimeoutMs = 60_000

func setUserTimeout(fd int) error {
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, backendUserTimeoutMs))
}
