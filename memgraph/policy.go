package memgraph

import "time"

// Policy is what operators have decided for all cases. The zero Policy chooses
// the mode by version, degrades, and limits nothing.
type Policy struct {
	SyncChoice  SyncChoice
	PartnerLoss PartnerLoss
	// MaxFailovers is how many failovers there may be within FailoverWindow before
	// an operator has to acknowledge them; 0 is any number.
	MaxFailovers   int
	FailoverWindow time.Duration
	Reseed         Reseeding
}

// SyncChoice is how partners are registered from now on.
type SyncChoice string

// Choices. By version it is STRICT_SYNC where that can be relied on, and else SYNC.
const (
	ChooseByVersion  SyncChoice = "auto"
	ChooseStrictSync SyncChoice = "strict_sync"
	ChooseSync       SyncChoice = "sync"
)

// PartnerLoss is what becomes of writes when the partner is lost.
type PartnerLoss string

// On a loss, to degrade is to go on without protection until there is another
// partner; to wait is to keep it registered, so that writes fail until it is back.
const (
	LossDegrades PartnerLoss = "degrade"
	LossWaits    PartnerLoss = "wait"
)

// Reseeding is who has a replica start empty that cannot follow MAIN with its data.
type Reseeding string

// By itself, or only on an operator's order, as with the zero value.
const (
	ReseedAuto   Reseeding = "auto"
	ReseedManual Reseeding = "manual"
)
