package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPercentileIsAMeasurement(t *testing.T) {
	hundred := Sample{}
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)*time.Millisecond)
	}
	for _, c := range []struct {
		name   string
		sample Sample
		p      float64
		want   time.Duration
	}{
		{"of none", nil, 99, 0},
		{"of one", Sample{7}, 50, 7},
		{"the least", Sample{3, 1, 2}, 0, 1},
		{"the greatest", Sample{3, 1, 2}, 100, 3},
		{"median of three", Sample{3, 1, 2}, 50, 2},
		{"median of two is the lower", Sample{20, 10}, 50, 10},
		{"p99 of ten is the greatest", Sample{9, 8, 7, 6, 5, 4, 3, 2, 1, 10}, 99, 10},
		{"p99 of a hundred", hundred, 99, 99 * time.Millisecond},
		{"median of a hundred", hundred, 50, 50 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.sample.Percentile(c.p)) })
	}
	assert.Equal(t, 100*time.Millisecond, hundred[0], "the sample keeps its order")
}

// at is a point in time, in seconds.
func at(s int) time.Time { return time.Unix(int64(s), 0) }

func TestLongestGap(t *testing.T) {
	acks := func(seconds ...int) (out []Ack) {
		for i, s := range seconds {
			out = append(out, Ack{ID: int64(i), At: at(s)})
		}
		return out
	}
	for _, c := range []struct {
		name       string
		acks       []Ack
		since, now int
		want       Gap
	}{
		{"nothing was written", nil, 10, 15, Gap{at(10), at(15)}},
		{"one in the middle", acks(0, 2, 7, 9), 1, 10, Gap{at(2), at(7)}},
		{"it began before", acks(0, 8, 9), 5, 10, Gap{at(0), at(8)}},
		{"it was over before", acks(0, 8, 9, 11), 8, 12, Gap{at(9), at(11)}},
		{"it lasts", acks(0, 1, 3), 0, 10, Gap{at(3), at(10)}},
		{"it lasts since before", acks(1, 2), 5, 10, Gap{at(2), at(10)}},
		{"the first counts from since", acks(9), 5, 10, Gap{at(5), at(9)}},
		{"the first of equals", acks(0, 3, 6), 0, 7, Gap{at(0), at(3)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, longestGap(c.acks, at(c.since), at(c.now)))
		})
	}
	assert.Equal(t, 5*time.Second, Gap{at(2), at(7)}.Length())
}

func TestMissingWritesAreThoseAcknowledged(t *testing.T) {
	acks := []Ack{{ID: 1}, {ID: 2}, {ID: 4}}
	for _, c := range []struct {
		name    string
		present map[int64]bool
		want    []Ack
	}{
		{"all are there", map[int64]bool{1: true, 2: true, 4: true}, []Ack{}},
		{"one that was not acknowledged is there too", map[int64]bool{1: true, 2: true, 3: true, 4: true}, []Ack{}},
		{"some are not", map[int64]bool{2: true, 3: true}, []Ack{{ID: 1}, {ID: 4}}},
		{"none is", nil, acks},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, missing(acks, c.present)) })
	}
}

func TestTableIsInMilliseconds(t *testing.T) {
	var b strings.Builder
	require.NoError(t, PrintTable(&b, "title", []Row{
		{"one", Sample{1500 * time.Microsecond}}, {"three", Sample{3 * time.Second, time.Second, 2 * time.Second}}, {"none", nil},
	}))
	var rows [][]string
	for line := range strings.Lines(b.String()) {
		rows = append(rows, strings.Fields(line))
	}
	assert.Equal(t, [][]string{
		{"title", "(ms)", "n", "min", "median", "p99", "max"},
		{"one", "1", "1.5", "1.5", "1.5", "1.5"},
		{"three", "3", "1000.0", "2000.0", "3000.0", "3000.0"},
		{"none", "0", "0.0", "0.0", "0.0", "0.0"},
	}, rows)
}
