package gateway

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
)

// scenario is played with every driver, way of writing and number of workers. It
// returns what nearly all operations may take.
func scenario(t *testing.T, scheme string, workers []int, play func(p *pair, l *load) time.Duration) {
	t.Helper()
	for _, driver := range []string{"Go", "JavaScript"} {
		for _, way := range slices.Sorted(maps.Keys(ways)) {
			for _, n := range workers {
				t.Run(fmt.Sprintf("%s, %s, %d workers", driver, way, n), func(t *testing.T) {
					if driver == "JavaScript" {
						nodePath(t)
					}
					p := startPair(t, nil)
					url := scheme + "://" + p.g.Addr().String()
					var l *load
					if driver == "Go" {
						l = startLoad(t, url, neo4j.NoAuth(), way, n)
					} else {
						l = startScript(t, url, way, n)
					}
					l.await(5 * int64(n))
					l.forget()
					limit := play(p, l)
					l.await(5 * int64(n))
					l.verdict(t.Name(), p.written)
					l.within(limit)
				})
			}
		}
	}
}

func TestAPlannedSwitchIsNotNoticed(t *testing.T) {
	scenario(t, "bolt", crowds, func(p *pair, l *load) time.Duration {
		p.switchOver(10 * time.Millisecond)
		return 500 * time.Millisecond
	})
}

// Nothing but what was about to be committed is told to the client at all.
func TestACrashIsAPause(t *testing.T) {
	scenario(t, "bolt", crowds, func(p *pair, l *load) time.Duration {
		l.mayFail = true
		p.failOver(300 * time.Millisecond)
		return time.Second
	})
}

func TestRolesThatChangeUntold(t *testing.T) {
	scenario(t, "bolt", []int{8}, func(p *pair, l *load) time.Duration {
		p.switchUntold(300 * time.Millisecond)
		return time.Second
	})
}

func TestARoutingDriverIsNotTroubledByASwitch(t *testing.T) {
	scenario(t, "neo4j", []int{8}, func(p *pair, l *load) time.Duration {
		p.switchOver(10 * time.Millisecond)
		return 500 * time.Millisecond
	})
}
