package gateway

// Disown says that a MAIN of a generation below the given one was given up without
// being demoted: whatever it still answers is not passed on. It may live, and tell
// a client that a commit took effect which its successor does not have: Memgraph up
// to 3.12 overlooks that a STRICT_SYNC replica refuses the second phase. It is to
// be called before the successor is named, and does not wait.
func (g *Gateway) Disown(below int64) {
	for {
		was := g.verifier.disowned.Load()
		if below <= was || g.verifier.disowned.CompareAndSwap(was, below) {
			return
		}
	}
}

// disowns reports whether nothing that main answers counts any more.
func (g *Gateway) disowns(main *incarnation) bool {
	return main.generation < g.verifier.disowned.Load()
}
