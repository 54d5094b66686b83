package gateway

import (
	"testing"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph/bolt"
)

// killAtCommit makes o die at the next COMMIT, by turns before and after it has
// taken effect. Where it dies it is not known to anybody else.
func (o *oracle) killAtCommit(n int) {
	o.failing.Lock()
	defer o.failing.Unlock()
	o.atCommit = []stage{beforeApply, afterApply, halfAnswer}[n%3]
}

// A MAIN that dies within a commit, a thousand times: no driver writes anything
// twice, or misses what was acknowledged.
func TestNothingIsWrittenTwice(t *testing.T) {
	const workers = 4
	for _, way := range []string{"managed", "unmanaged"} {
		for _, driver := range []string{"Go", "JavaScript"} {
			t.Run(driver+", "+way, func(t *testing.T) {
				if driver == "JavaScript" {
					nodePath(t)
				}
				w := &world{commits: map[string]int{}}
				o := startOracle(t, w, "0", -1, "")
				g := startGateway(t, func(c *Config) { c.Logger = nil })
				g.Serve("memgraph-0", o.addr, "0", 1)
				url, start := "bolt://"+g.Addr().String(), startScript
				if driver == "Go" {
					start = func(t testing.TB, url, way string, workers int) *load {
						return startLoad(t, url, neo4j.NoAuth(), way, workers)
					}
				}
				l := start(t, url, way, workers)
				for n := range kills / 2 {
					o.killAtCommit(n)
					<-o.died
					next := startOracle(t, w, "", -1, "")
					g.Serve("memgraph-0", next.addr, "", int64(n)+2)
					o.kill()
					o = next
				}
				l.await(2 * workers)
				l.mayFail = true
				l.verdict(t.Name(), func() map[string]int { return w.commits })
				assert.NotEmpty(t, l.errors, "commits were interrupted")
			})
		}
	}
}

// endsIn is the stage at which o fails, if m is the COMMIT that it waits for.
func (o *oracle) endsIn(m bolt.Message) (s stage) {
	o.failing.Lock()
	defer o.failing.Unlock()
	if m == bolt.Message(commit) {
		s, o.atCommit = o.atCommit, ""
	}
	return s
}
