//go:build !race

package failover

// stride judges every cluster.
const stride = 1
