package memgraphtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CertificateName is the name in an Authority's certificates, which are for
// 127.0.0.1 as well.
const CertificateName = "memgraph.test"

// Authority signs certificates for the length of a test, to be used by servers
// and clients alike. Its own certificate is in CAFile.
type Authority struct {
	CAFile, CertFile, KeyFile string
	Pool                      *x509.CertPool // of its own certificate

	t    T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority has a first certificate issued, with the serial number 1.
func NewAuthority(t T) *Authority {
	dir := t.TempDir()
	a := &Authority{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
		Pool: x509.NewCertPool(), t: t,
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	a.check(err)
	a.cert, err = x509.ParseCertificate(der)
	a.check(err)
	a.Pool.AddCert(a.cert)
	a.write(a.CAFile, "CERTIFICATE", der)
	a.Issue(1)
	return a
}

// Issue writes a certificate with that serial number to CertFile, and its key to
// KeyFile, in place of the former.
func (a *Authority) Issue(serial int64) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{CertificateName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	a.check(err)
	secret, err := x509.MarshalECPrivateKey(key)
	a.check(err)
	a.write(a.KeyFile, "EC PRIVATE KEY", secret)
	a.write(a.CertFile, "CERTIFICATE", der)
}

func (a *Authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	return key
}

// write replaces a file in one step, as a kubelet does.
func (a *Authority) write(name, kind string, der []byte) {
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	a.check(os.WriteFile(name+".new", b, 0o600))
	a.check(os.Rename(name+".new", name))
}

func (a *Authority) check(err error) {
	if err != nil {
		a.t.Fatalf("authority: %v", err)
	}
}
