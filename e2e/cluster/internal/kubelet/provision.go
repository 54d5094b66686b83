package kubelet

import (
	"context"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/core/v1"
)

// provisioner makes a volume for each claim, and removes it with the claim.
// That the claim outlives the pods that use it is the protection controller's
// care; that it gets bound, the binder's.
type provisioner struct {
	loop
	agent  *Agent
	claims listers.PersistentVolumeClaimLister
	made   map[types.UID]bool
}

func newProvisioner(a *Agent, claims listers.PersistentVolumeClaimLister) *provisioner {
	p := &provisioner{agent: a, claims: claims, made: map[types.UID]bool{}}
	p.loop = newLoop(p.provisionAll)
	return p
}

// provisionAll is level-triggered: what fails is tried again at the next event
// or recheck.
func (p *provisioner) provisionAll(ctx context.Context) {
	claims, err := p.claims.List(labels.Everything())
	if err != nil {
		return // a cache has no errors
	}
	wanted := map[types.UID]bool{}
	for _, c := range claims {
		wanted[c.UID] = true
		if p.made[c.UID] {
			continue
		}
		if err := p.make(ctx, c); err != nil {
			p.agent.log.Warn("volume not made", "claim", c.Name, "err", err)
			continue
		}
		p.made[c.UID] = true
	}
	for uid := range p.made {
		if wanted[uid] {
			continue
		}
		if err := p.remove(ctx, uid); err != nil {
			p.agent.log.Warn("volume not removed", "claim_uid", uid, "err", err)
			continue
		}
		delete(p.made, uid)
	}
}

// make names the claim in the volume, by UID: the binder then binds the two
// whatever the storage class, and no later claim of that name gets the data.
func (p *provisioner) make(ctx context.Context, c *corev1.PersistentVolumeClaim) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	dir := claimDir(p.agent.volumes(), c.UID)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volumeName(c.UID)},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      c.Spec.Resources.Requests,
			AccessModes:                   c.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:                      &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: c.Namespace, Name: c.Name, UID: c.UID},
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: dir}},
		},
	}
	if c.Spec.StorageClassName != nil {
		volume.Spec.StorageClassName = *c.Spec.StorageClassName
	}
	_, err := p.agent.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create volume: %w", err)
	}
	return nil
}

// remove takes the data along, as a dynamic provisioner with the usual reclaim
// policy does.
func (p *provisioner) remove(ctx context.Context, claim types.UID) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.agent.client.CoreV1().PersistentVolumes().Delete(ctx, volumeName(claim), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete volume: %w", err)
	}
	if err := os.RemoveAll(claimDir(p.agent.volumes(), claim)); err != nil {
		return fmt.Errorf("remove directory: %w", err)
	}
	return nil
}

func volumeName(claim types.UID) string { return "pvc-" + string(claim) }
