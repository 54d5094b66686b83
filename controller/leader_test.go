package controller

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// A leader that stops releases the lease, and whoever comes next does not wait for its
// next attempt, which would be up to 2.2 s away.
func TestAReleasedLeaseIsTakenAtOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		first, resign, stop := l.startLeader("a")
		defer stop()
		l.settled()
		second, stopSecond := l.start("b")
		defer stopSecond()
		<-time.After(10 * time.Second)
		require.True(t, first.Status().Leading)
		require.False(t, second.Status().Leading)
		resign()
		<-time.After(20 * time.Millisecond)
		synctest.Wait()
		assert.True(t, second.Status().Leading)
		assert.False(t, first.Status().Leading)

		third, stopThird := l.start("c")
		defer stopThird()
		<-time.After(10 * time.Second)
		assert.True(t, second.Status().Leading, "a release is taken notice of once")
		assert.False(t, third.Status().Leading)
	})
}

// Whoever loses the lease competes for it again, however often.
func TestALostLeaseIsCampaignedForAgain(t *testing.T) {
	inLab(t, func(l *lab) {
		var away atomic.Bool
		l.cs.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("no route to host")
		})
		c, stop := l.start("a")
		defer stop()
		l.settled()
		for range 10 {
			require.True(t, c.Status().Leading)
			away.Store(true)
			<-time.After(Defaults.RenewDeadline + Defaults.RetryPeriod)
			assert.False(t, c.Status().Leading)
			away.Store(false)
			<-time.After(Defaults.LeaseDuration + 3*Defaults.RetryPeriod)
		}
	})
}
