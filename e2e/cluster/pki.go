package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// validity is far longer than any run and short enough to be of no use later.
const validity = 30 * 24 * time.Hour

// credentials are what the API server and its clients prove who they are with:
// one certificate, which is its own authority, a key for the tokens of
// ServiceAccounts, and a token of ours with all rights. Clients have no
// certificates: what is under test, the product, comes as a ServiceAccount.
type credentials struct {
	certificate string // files, PEM
	key         string
	accountKey  string
	tokens      string // CSV of the API server's --token-auth-file
	adminToken  string
}

// newCredentials writes them to dir, for an API server at the address ip.
func newCredentials(dir, ip string) (*credentials, error) {
	c := &credentials{
		certificate: filepath.Join(dir, "apiserver.crt"),
		key:         filepath.Join(dir, "apiserver.key"),
		accountKey:  filepath.Join(dir, "serviceaccount.key"),
		tokens:      filepath.Join(dir, "tokens.csv"),
		adminToken:  rand.Text(),
	}
	key, err := writeKey(c.key)
	if err != nil {
		return nil, err
	}
	if err := writeCertificate(c.certificate, key, ip); err != nil {
		return nil, err
	}
	if _, err := writeKey(c.accountKey); err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%s,admin,admin,system:masters\n", c.adminToken)
	if err := os.WriteFile(c.tokens, []byte(line), 0o600); err != nil {
		return nil, fmt.Errorf("write tokens: %w", err)
	}
	return c, nil
}

// writeKey makes a key on P-256, which takes microseconds where RSA takes a
// noticeable part of the start.
func writeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal key: %w", err)
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

// writeCertificate signs key with itself: clients trust exactly this server.
func writeCertificate(path string, key *ecdsa.PrivateKey, ip string) error {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kube-apiserver"},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(validity),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:           []net.IP{net.ParseIP(ip)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("create certificate: %w", err)
	}
	return writePEM(path, "CERTIFICATE", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write PEM: %w", err)
	}
	return nil
}

// kubeconfig writes one for the bearer of token.
func (c *credentials) kubeconfig(path, server, token, namespace string) error {
	const name = "e2e"
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthority: c.certificate}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name, Namespace: namespace}},
		CurrentContext: name,
	}, path)
	if err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
