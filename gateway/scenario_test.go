package gateway

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
)

func (p *pair) load(way string, workers int) *load {
	return startLoad(p.t, "bolt://"+p.g.Addr().String(), neo4j.NoAuth(), way, workers)
}

func eachWay(t *testing.T, workers []int, f func(t *testing.T, way string, workers int)) {
	for _, way := range slices.Sorted(maps.Keys(ways)) {
		for _, n := range workers {
			t.Run(fmt.Sprintf("%s, %d workers", way, n), func(t *testing.T) { f(t, way, n) })
		}
	}
}

func TestAPlannedSwitchIsNotNoticed(t *testing.T) {
	eachWay(t, []int{8, 64}, func(t *testing.T, way string, workers int) {
		p := startPair(t, nil)
		l := p.load(way, workers)
		l.await(int64(5 * workers))
		p.switchOver(10 * time.Millisecond)
		l.await(int64(5 * workers))
		l.verdict(t.Name(), p.written)
		assert.Empty(t, l.errors)
	})
}

func TestACrashIsAPause(t *testing.T) {
	const gap = 300 * time.Millisecond
	eachWay(t, []int{8, 64}, func(t *testing.T, way string, workers int) {
		p := startPair(t, nil)
		l := p.load(way, workers)
		l.await(int64(5 * workers))
		p.failOver(gap)
		l.await(int64(5 * workers))
		l.verdict(t.Name(), p.written)
	})
}

func TestRolesThatChangeUntold(t *testing.T) {
	eachWay(t, []int{8}, func(t *testing.T, way string, workers int) {
		p := startPair(t, nil)
		l := p.load(way, workers)
		l.await(int64(5 * workers))
		p.switchUntold(300 * time.Millisecond)
		l.await(int64(5 * workers))
		l.verdict(t.Name(), p.written)
		assert.Empty(t, l.errors)
	})
}
