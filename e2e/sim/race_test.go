//go:build race

package sim

// defaultSeeds: the race detector makes a schedule ten times as long, and only
// one goroutine of it runs at a time anyway.
const defaultSeeds = 1_000
