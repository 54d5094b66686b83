package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// reloadEvery is how long a renewed certificate may lie unnoticed: kubelets take
// up to a minute to put it into the pod, and to read three small files costs 0.1
// ms.
const reloadEvery = 2 * time.Second

// keyring holds what clients' TLS is done with, and takes it anew from its files
// when they have changed. What cannot be used is told of once, and leaves in place
// what was there; connections that exist are never touched.
type keyring struct {
	door    Door
	log     *slog.Logger
	rules   atomic.Pointer[tls.Config]
	read    [sha256.Size]byte // of the files' content, last time
	loads   *prometheus.CounterVec
	expires prometheus.Gauge
}

// newKeyring is nil where TLS is not ended here. It fails where the files cannot
// be used.
func newKeyring(cfg *Config) (*keyring, error) {
	if cfg.Door.CertFile == "" {
		return nil, nil
	}
	k := &maker{registerer: cfg.Registerer}
	ring := &keyring{
		door:  cfg.Door,
		log:   cfg.Logger,
		loads: k.counter("tls_loads_total", "Changes of the certificate's files, by what they came to.", "result"),
		expires: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "tls_certificate_expiry_timestamp_seconds", Help: "When the certificate in use ends, in seconds since 1970.",
		}),
	}
	if k.register(ring.expires); k.err != nil {
		return nil, k.err
	}
	if _, err := ring.reload(); err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return ring, nil
}

// watch reloads until ctx ends.
func (k *keyring) watch(ctx context.Context) {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		switch changed, err := k.reload(); {
		case err != nil && changed:
			k.log.Warn("certificate cannot be used, the former stays", "err", err)
		case changed:
			k.log.Info("certificate changed")
		}
	}
}

// reload takes what is in the files, if it has changed. It must not be called
// twice at the same time.
func (k *keyring) reload() (changed bool, err error) {
	content, failed := k.door.read()
	if failed != nil {
		content = [3][]byte{[]byte(failed.Error())} // the same failure is no change
	}
	read := sha256.Sum256(fmt.Appendf(nil, "%q", content))
	if read == k.read {
		return false, failed
	}
	k.read = read
	var rules *tls.Config
	if err = failed; err == nil {
		rules, err = rulesOf(content)
	}
	if err != nil {
		k.loads.WithLabelValues("failed").Inc()
		return true, err
	}
	k.loads.WithLabelValues("done").Inc()
	k.expires.Set(float64(rules.Certificates[0].Leaf.NotAfter.Unix()))
	k.rules.Store(rules)
	return true, nil
}

// read returns what is in the files of certificate, key and clients' CAs.
func (d *Door) read() (content [3][]byte, err error) {
	for i, name := range []string{d.CertFile, d.KeyFile, d.ClientCAFile} {
		if name == "" {
			continue
		}
		b, failed := os.ReadFile(name)
		content[i], err = b, errors.Join(err, failed)
	}
	return content, err
}

// rulesOf is the server's side of TLS. A session that is resumed would go by the
// certificates of its first handshake: there are none.
func rulesOf(content [3][]byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return nil, fmt.Errorf("pair certificate and key: %w", err)
	}
	rules := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		SessionTicketsDisabled: true, DynamicRecordSizingDisabled: true,
	}
	if cas := content[2]; cas != nil {
		rules.ClientAuth, rules.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !rules.ClientCAs.AppendCertsFromPEM(cas) {
			return nil, errors.New("read clients' CAs: there is no certificate in the file")
		}
	}
	return rules, nil
}
