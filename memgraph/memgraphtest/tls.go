package memgraphtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// serverTLS is nil where Bolt is plain text.
func serverTLS(cfg Config) (*tls.Config, error) {
	if cfg.CertFile == "" && cfg.KeyFile == "" {
		return nil, nil
	}
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return nil, errors.New("load certificate: the certificate or its key is not given")
	}
	pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// secured wraps a connection in TLS, if Bolt speaks it. A client that does not
// is left without a byte (observed).
func (i *instance) secured(c *conn) net.Conn {
	if i.tls == nil {
		return c
	}
	return tls.Server(c, i.tls)
}
