package kubelet

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// accountPath is where admission mounts the ServiceAccount's token, and where
// a client in a pod looks for it.
const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// claimDir is the directory of a claim's volume.
func claimDir(volumes string, claim types.UID) string { return filepath.Join(volumes, string(claim)) }

// boundClaim is the claim's UID once it is bound.
func (s sources) boundClaim(ctx context.Context, name string) (types.UID, error) {
	claim, err := s.client.CoreV1().PersistentVolumeClaims(s.pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("get claim: %w", err)
	}
	if claim.Status.Phase != corev1.ClaimBound {
		return "", fmt.Errorf("claim %s is not bound", name)
	}
	return claim.UID, nil
}

// files are what a volume that the API fills holds.
func (s sources) files(ctx context.Context, v corev1.VolumeSource) (map[string][]byte, error) {
	switch {
	case v.EmptyDir != nil:
		return nil, nil
	case v.Secret != nil:
		data, err := s.secret(ctx, v.Secret.SecretName, v.Secret.Optional)
		return choose(data, v.Secret.Items, err)
	case v.ConfigMap != nil:
		data, err := s.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Optional)
		return choose(data, v.ConfigMap.Items, err)
	case v.DownwardAPI != nil:
		return s.fields(v.DownwardAPI.Items)
	case v.Projected != nil:
		all := map[string][]byte{}
		for _, p := range v.Projected.Sources {
			some, err := s.projection(ctx, p)
			if err != nil {
				return nil, err
			}
			maps.Copy(all, some)
		}
		return all, nil
	}
	return nil, fmt.Errorf("unsupported volume")
}

// projection is one source of a projected volume, such as the one that admission
// adds for the ServiceAccount: token, root certificate and namespace.
func (s sources) projection(ctx context.Context, p corev1.VolumeProjection) (map[string][]byte, error) {
	switch {
	case p.Secret != nil:
		data, err := s.secret(ctx, p.Secret.Name, p.Secret.Optional)
		return choose(data, p.Secret.Items, err)
	case p.ConfigMap != nil:
		data, err := s.configMap(ctx, p.ConfigMap.Name, p.ConfigMap.Optional)
		return choose(data, p.ConfigMap.Items, err)
	case p.DownwardAPI != nil:
		return s.fields(p.DownwardAPI.Items)
	case p.ServiceAccountToken != nil:
		token, err := s.token(ctx, p.ServiceAccountToken)
		return map[string][]byte{p.ServiceAccountToken.Path: token}, err
	}
	return nil, fmt.Errorf("unsupported projection")
}

// choose renames the keys that items name, or takes them all if there are none.
func choose(data map[string][]byte, items []corev1.KeyToPath, err error) (map[string][]byte, error) {
	if err != nil || len(items) == 0 || data == nil {
		return data, err
	}
	out := make(map[string][]byte, len(items))
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			return nil, fmt.Errorf("no key %q", item.Key)
		}
		out[item.Path] = v
	}
	return out, nil
}

func (s sources) fields(items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	out := make(map[string][]byte, len(items))
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("unsupported source")
		}
		v, err := field(s.pod, item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		out[item.Path] = []byte(v)
	}
	return out, nil
}

// writeFiles makes dir, which may be all there is to do, and the files in it.
func writeFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfig stands for a client's in-cluster configuration, whose paths
// are fixed and do not exist outside a container: account is the directory that
// is mounted at accountPath.
func writeKubeconfig(path, server, account, namespace string) error {
	const name = "pod"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthority: filepath.Join(account, "ca.crt")}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {TokenFile: filepath.Join(account, "token")}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}},
		CurrentContext: name,
	}, path)
}
