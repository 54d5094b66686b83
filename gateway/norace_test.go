//go:build !race

package gateway

const (
	slowed = false
	kills  = 1000 // of MAIN, within a commit
)

// crowds are numbers of workers.
var crowds = []int{8, 64}
