package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"memgraph-controller/memgraph"
)

// ErrConflict says that the record is no longer the one that was decided on.
var ErrConflict = errors.New("record has changed")

// ErrDamaged says that the record cannot be read and has to be derived anew.
var ErrDamaged = errors.New("record is damaged")

// RecordName is the ConfigMap that holds the record of a StatefulSet.
func RecordName(statefulSet string) string { return statefulSet + "-topology" }

// fieldManager is who wrote, in the ConfigMap's managed fields.
const fieldManager = "memgraph-controller"

// configMapStore keeps the record in a ConfigMap that nothing owns: an uninstall
// must not delete the truth.
type configMapStore struct {
	configMaps  typedcorev1.ConfigMapInterface
	statefulSet string
}

// Load reads the record, live. No record is a Topology with Generation 0. It
// returns ErrDamaged with the revision, and the generation as far as it was
// legible.
func (s *configMapStore) Load(ctx context.Context) (memgraph.Topology, error) {
	cm, err := s.configMaps.Get(ctx, RecordName(s.statefulSet), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return memgraph.Topology{}, nil
	}
	if err != nil {
		return memgraph.Topology{}, fmt.Errorf("get record: %w", err)
	}
	return s.decode(cm)
}

func (s *configMapStore) decode(cm *corev1.ConfigMap) (memgraph.Topology, error) {
	t, err := decodeRecord(s.statefulSet, cm.Data)
	t.Revision, t.Order = cm.ResourceVersion, decodeOrder(cm.Annotations)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t, nil
}

// Put writes t if the record is still at t.Revision, or is absent where that is
// "". It returns t with its new revision, or ErrConflict. Only our keys are
// touched, and the annotations of an order that is not in t any more: it is
// answered. Labels and annotations of others stay.
func (s *configMapStore) Put(ctx context.Context, t memgraph.Topology) (memgraph.Topology, error) {
	data, err := encodeRecord(t)
	if err != nil {
		return memgraph.Topology{}, err
	}
	var cm *corev1.ConfigMap
	if t.Revision == "" {
		cm, err = s.create(ctx, data)
	} else {
		cm, err = s.patch(ctx, t, data)
	}
	if err = conflict(err); err != nil {
		return memgraph.Topology{}, err
	}
	t.Revision = cm.ResourceVersion
	return t, nil
}

func (s *configMapStore) create(ctx context.Context, data map[string]*string) (*corev1.ConfigMap, error) {
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Name: RecordName(s.statefulSet),
			Labels: map[string]string{
				"app.kubernetes.io/managed-by": fieldManager,
				"app.kubernetes.io/instance":   s.statefulSet,
			},
		},
		Data: map[string]string{},
	}
	for key, value := range data {
		if value != nil {
			cm.Data[key] = *value
		}
	}
	return s.configMaps.Create(ctx, cm, metav1.CreateOptions{FieldManager: fieldManager})
}

// patch is an update of our keys alone. The resourceVersion in it makes the
// server refuse it where the object has changed, be it by a new order.
func (s *configMapStore) patch(ctx context.Context, t memgraph.Topology, data map[string]*string) (*corev1.ConfigMap, error) {
	metadata := map[string]any{"resourceVersion": t.Revision}
	if t.Order == nil {
		metadata["annotations"] = withoutOrder()
	}
	return s.apply(ctx, map[string]any{"metadata": metadata, "data": data})
}

func (s *configMapStore) apply(ctx context.Context, patch map[string]any) (*corev1.ConfigMap, error) {
	encoded, err := json.Marshal(patch)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return s.configMaps.Patch(ctx, RecordName(s.statefulSet), types.MergePatchType, encoded,
		metav1.PatchOptions{FieldManager: fieldManager})
}

// order has o stand in the record, or nothing where o is nil, if the record is
// still at revision; else it returns ErrConflict.
func (s *configMapStore) order(ctx context.Context, revision string, o *memgraph.Order) error {
	annotations := withoutOrder()
	if o != nil {
		annotations = withOrder(*o)
	}
	_, err := s.apply(ctx, map[string]any{
		"metadata": map[string]any{"resourceVersion": revision, "annotations": annotations},
	})
	return conflict(err)
}

// conflict is err, as ErrConflict where the object is not what was expected.
func conflict(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}
