package memgraphtest

import (
	"fmt"
	"slices"

	"memgraph-controller/memgraph/memgraphtest/internal/cypher"
)

// version of Memgraph that is played: it selects texts and behaviour.
type version struct {
	text         string
	major, minor int
}

// next stands for what is merged after 3.12 and not released yet.
const next = "next"

func parseVersion(s string) (version, error) {
	if s == next {
		return version{s, 3, 13}, nil
	}
	v := version{text: s}
	var patch int
	if n, err := fmt.Sscanf(s, "%d.%d.%d", &v.major, &v.minor, &patch); n != 3 || err != nil {
		return version{}, fmt.Errorf("memgraph version %q: wanted one like 3.12.0, or %q", s, next)
	}
	if v.before(3, 4) {
		return version{}, fmt.Errorf("memgraph version %q: the oldest that is modelled is 3.4", s)
	}
	return v, nil
}

func (v version) atLeast(major, minor int) bool {
	return slices.Compare([]int{v.major, v.minor}, []int{major, minor}) >= 0
}

// grammar is what v understands.
func (v version) grammar() cypher.Grammar {
	return cypher.Grammar{WithoutStrictSync: v.before(3, 5), WithoutDatabaseInfo: v.before(3, 11)}
}

// before is for behaviour that ended with major.minor.
func (v version) before(major, minor int) bool { return !v.atLeast(major, minor) }
