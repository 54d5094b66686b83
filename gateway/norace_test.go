//go:build !race

package gateway

const (
	slowed = false
	crowd  = 64   // workers, where 8 are a few
	kills  = 1000 // of MAIN, within a commit
)
