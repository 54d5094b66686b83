//go:build !race

package sim

// defaultSeeds take half a minute on two cores.
const defaultSeeds = 20_000
