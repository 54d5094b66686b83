//go:build !linux

package gateway

// setUserTimeout is for Linux; elsewhere the system's retransmission limits
// bound a relay to a silent pod.
func setUserTimeout(int) error { return nil }
