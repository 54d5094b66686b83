package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/datadir"
)

// prepareRetry is between two attempts to read the record.
const prepareRetry = 500 * time.Millisecond

// Preparation is what happens in a pod before its Memgraph starts: data that the
// record says is of no use is moved aside. Its fields are flags.
type Preparation struct {
	Namespace     string
	StatefulSet   string
	Pod           string
	DataDirectory string
	// Keep is how many directories that were moved aside are kept, 1 or more.
	Keep int
	// Timeout bounds asking for the record; without it, Memgraph starts with the
	// data that is there.
	Timeout time.Duration
}

// DefaultPreparation holds what is not about one pod. Ten seconds outlast an API
// server that is being elected or rolled out, and delay a cold start no more.
var DefaultPreparation = Preparation{StatefulSet: "memgraph", Keep: 1, Timeout: 10 * time.Second}

// AddFlags has f set p; what p holds are the defaults.
func (p *Preparation) AddFlags(f *flag.FlagSet) {
	f.StringVar(&p.Namespace, "namespace", p.Namespace, "namespace of the pod (default: its ServiceAccount's)")
	f.StringVar(&p.StatefulSet, "statefulset", p.StatefulSet, "name of the Memgraph StatefulSet")
	f.StringVar(&p.Pod, "pod", p.Pod, "name of the pod")
	f.StringVar(&p.DataDirectory, "data-directory", p.DataDirectory, "Memgraph's data directory; what is moved aside stays next to it")
	f.IntVar(&p.Keep, "keep", p.Keep, "how many directories that were moved aside are kept")
	f.DurationVar(&p.Timeout, "timeout", p.Timeout, "how long the record is asked for, before Memgraph starts with the data that is there")
}

// Validate returns everything that is wrong, by flag.
func (p Preparation) Validate() error {
	var v violations
	v.empty("statefulset", p.StatefulSet)
	v.empty("pod", p.Pod)
	v.empty("data-directory", p.DataDirectory)
	v.fewer("keep", p.Keep)
	v.outside("timeout", p.Timeout, time.Second, maxInterval)
	return errors.Join(v...)
}

// Run moves the data directory aside if the record that is read through kube says
// so. On any doubt about that it leaves it alone and returns nil; an error means
// that the data is of no use and could not be moved.
func (p Preparation) Run(ctx context.Context, kube kubernetes.Interface, log *slog.Logger) error {
	log = log.With("pod", p.Pod, "data_directory", p.DataDirectory)
	record, err := p.record(ctx, kube)
	if err != nil {
		log.Warn("record cannot be read, the data stays", "err", err)
		return nil
	}
	order, stands := record.StartsEmpty(p.Pod)
	if !stands {
		log.Info("the data stays")
		return nil
	}
	aside, err := datadir.SetAside(p.DataDirectory, datadir.Order{Since: order.Since, ID: order.UID}, p.Keep)
	if err != nil {
		return fmt.Errorf("start %s empty: %w", p.Pod, err)
	}
	log.Info("starting empty", "reason", order.Reason, "aside", aside)
	return nil
}

// record reads the record, over and over until it is there or Timeout is over. One
// that is damaged, or may not be read, does not get better.
func (p Preparation) record(ctx context.Context, kube kubernetes.Interface) (memgraph.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	store := configMapStore{configMaps: kube.CoreV1().ConfigMaps(p.Namespace), statefulSet: p.StatefulSet}
	for {
		record, err := store.Load(ctx)
		if err == nil || errors.Is(err, ErrDamaged) || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return record, err
		}
		if sleep(ctx, prepareRetry) != nil {
			return memgraph.Topology{}, err
		}
	}
}
