package memgraph

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
)

// TLS says how instances are connected to. The zero value is plain TCP.
type TLS struct {
	Mode TLSMode
	// CAFile, in PEM, names who signs the instances' certificates; the system's
	// authorities if empty.
	CAFile string
	// ServerName must be in an instance's certificate. If it is empty, any
	// certificate by CAFile's authorities will do: instances are connected to by
	// addresses that no certificate can foresee.
	ServerName string
	// CertFile and KeyFile, in PEM, are what we show to instances that ask.
	CertFile, KeyFile string
}

// TLSMode is whether TLS is used.
type TLSMode string

// The kinds of TLSMode. One instance speaks TLS only or not at all.
const (
	TLSOff TLSMode = "off"
	TLSOn  TLSMode = "on"
)

// AddFlags has f set t.
func (t *TLS) AddFlags(f *flag.FlagSet) {
	f.StringVar((*string)(&t.Mode), "memgraph-tls", string(TLSOff), "connections to Memgraph: off for plain TCP, on for TLS")
	f.StringVar(&t.CAFile, "memgraph-tls-ca-file", "", "PEM file of who signs Memgraph's certificates (default: the system's authorities)")
	f.StringVar(&t.ServerName, "memgraph-tls-server-name", "", "name that Memgraph's certificates must have; if empty, any certificate by those authorities will do")
	f.StringVar(&t.CertFile, "memgraph-tls-cert-file", "", "PEM file of our own certificate, for a Memgraph that asks for one")
	f.StringVar(&t.KeyFile, "memgraph-tls-key-file", "", "PEM file of its key")
}

// Validate returns everything that is wrong, by flag, with what would be right.
func (t TLS) Validate() error {
	var errs []error
	if t.Mode != TLSOff && t.Mode != TLSOn {
		errs = append(errs, fmt.Errorf("--memgraph-tls: unknown value %q; use off or on", t.Mode))
	}
	if t.Mode == TLSOn && t.CAFile == "" && t.ServerName == "" {
		errs = append(errs, errors.New("--memgraph-tls: any certificate in the world would do; give --memgraph-tls-ca-file or --memgraph-tls-server-name"))
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		errs = append(errs, errors.New("--memgraph-tls-cert-file: it needs --memgraph-tls-key-file, and the other way round"))
	}
	return errors.Join(errs...)
}

// Rules are what connections to instances are secured by, nil if they are plain.
// It fails where a file cannot be used. Files are read anew for each connection:
// they may be renewed. The rules are all in VerifyConnection, because the Neo4j
// driver would have the certificate name the address that it connects to.
func (t TLS) Rules() (*tls.Config, error) {
	if t.Mode != TLSOn {
		return nil, nil
	}
	if _, err := t.authorities(); err != nil {
		return nil, err
	}
	rules := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: t.ServerName,
		InsecureSkipVerify: true, VerifyConnection: t.verify,
		DynamicRecordSizingDisabled: true,
	}
	if t.CertFile != "" {
		if _, err := t.own(nil); err != nil {
			return nil, err
		}
		rules.GetClientCertificate = t.own
	}
	return rules, nil
}

// authorities is nil for the system's.
func (t TLS) authorities() (*x509.CertPool, error) {
	if t.CAFile == "" {
		return nil, nil
	}
	b, err := os.ReadFile(t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("read authorities: there is no certificate in %s", t.CAFile)
	}
	return pool, nil
}

func (t TLS) own(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load own certificate: %w", err)
	}
	return &pair, nil
}

// verify is what crypto/tls does by itself, with names as TLS wants them.
func (t TLS) verify(s tls.ConnectionState) error {
	roots, err := t.authorities()
	if err != nil {
		return err
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: t.ServerName, Roots: roots, Intermediates: between})
	if err != nil {
		return untrusted{err}
	}
	return nil
}

// untrusted is what is wrong with an instance's certificate.
type untrusted struct{ error }
