//go:build race

package gateway

// Under the race detector, which is ten times slower and for other findings,
// tests are played smaller, and what they time is not judged.
const (
	slowed = true
	kills  = 50
)

var crowds = []int{8}
