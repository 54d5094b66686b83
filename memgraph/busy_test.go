package memgraph

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Who asked while a lock was held, and then got no answer, has to know of both: what
// was sent last may go on, and keep MAIN from answering anybody.
func TestWhatWasCutOffIsToldBesideTheLock(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	answers := []error{ErrBusy, ErrUnreachable}
	err := whileBusy(ctx, func() (err error) {
		if err, answers = answers[0], answers[1:]; len(answers) == 0 {
			end()
		}
		return err
	})
	assert.ErrorIs(t, err, ErrBusy)
	assert.ErrorIs(t, err, ErrUnreachable)
}
