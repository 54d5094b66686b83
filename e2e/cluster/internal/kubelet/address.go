package kubelet

import (
	"errors"
	"fmt"
	"sync"
)

// Last octets. The first address is the control plane's.
const (
	firstNode = 2
	firstPod  = 10
	lastPod   = 250
)

// addresses hands out pod addresses in turn, so that a new pod rarely gets the
// one of a pod that has just gone.
type addresses struct {
	subnet string

	mu    sync.Mutex
	last  int
	taken map[string]bool
}

func newAddresses(subnet string) *addresses {
	return &addresses{subnet: subnet, last: lastPod, taken: map[string]bool{}}
}

// take returns an address that no process listens on: it stays taken until the
// pod's last process has ended, also after the object has gone.
func (a *addresses) take() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for range lastPod - firstPod + 1 {
		if a.last++; a.last > lastPod {
			a.last = firstPod
		}
		if ip := fmt.Sprintf("%s.%d", a.subnet, a.last); !a.taken[ip] {
			a.taken[ip] = true
			return ip, nil
		}
	}
	return "", errors.New("no address left")
}

func (a *addresses) release(ip string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.taken, ip)
}
