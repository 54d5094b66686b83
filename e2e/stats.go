package e2e

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
	"time"
)

// Sample is what was measured of one thing, once a round or more often.
type Sample []time.Duration

// Percentile is the smallest measurement that p of a hundred do not exceed; of
// none it is 0.
func (s Sample) Percentile(p float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// Gap is a time in which no write was acknowledged.
type Gap struct{ From, To time.Time }

// Length is how long it was.
func (g Gap) Length() time.Duration { return g.To.Sub(g.From) }

// longestGap is the longest, the first if there are several, of those between
// two acks that end after since, and of that from the last ack until now. acks
// are in order; before the first of them there is none, unless since.
func longestGap(acks []Ack, since, now time.Time) Gap {
	longest, last := Gap{}, since
	for _, a := range acks {
		if g := (Gap{last, a.At}); a.At.After(since) && g.Length() > longest.Length() {
			longest = g
		}
		last = a.At
	}
	if g := (Gap{last, now}); g.Length() > longest.Length() {
		return g
	}
	return longest
}

// missing are the writes of acks that are not present.
func missing(acks []Ack, present map[int64]bool) []Ack {
	return slices.DeleteFunc(slices.Clone(acks), func(a Ack) bool { return present[a.ID] })
}

// Row is a line of a table.
type Row struct {
	Name string
	Sample
}

// PrintTable writes min, median, p99 and max of each row in milliseconds.
func PrintTable(w io.Writer, title string, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%s (ms)\tn\tmin\tmedian\tp99\tmax\t\n", title)
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t\n", r.Name, len(r.Sample),
			ms(r.Percentile(0)), ms(r.Percentile(50)), ms(r.Percentile(99)), ms(r.Percentile(100)))
	}
	return t.Flush()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }
