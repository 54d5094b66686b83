package gateway

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"strconv"
)

// AddFlags has f set c, whose fields take their defaults.
func (c *Config) AddFlags(f *flag.FlagSet) {
	f.StringVar(&c.Listen, "gateway-listen", ":7687", "host:port for Bolt clients")
	f.StringVar((*string)(&c.Rerun), "gateway-rerun", string(RerunVerified), "transactions that a change of MAIN interrupts before their commit are run again: off, unseen (if the client saw no result) or verified (if the results are the same)")
	f.StringVar((*string)(&c.Administration), "gateway-administration", string(AdministrationAllowed), "clients' statements about replication: allowed or denied")
	f.StringVar(&c.Read.Listen, "gateway-read-listen", "", "host:port for Bolt clients that only read, from replicas; none if empty")
	f.StringVar((*string)(&c.Read.Fallback), "gateway-read-fallback", string(ReadFromMain), "where those read while there is no replica: main, or none to have them wait")
	c.Door.addFlags(f)
	f.StringVar((*string)(&c.OnIsolation), "gateway-on-isolation", string(IsolationHold), "clients, while nobody can tell whether MAIN was replaced: hold or serve")
	c.Limits.addFlags(f)
	c.Timeouts.addFlags(f)
}

func (d *Door) addFlags(f *flag.FlagSet) {
	f.StringVar(&d.CertFile, "gateway-tls-cert-file", "", "PEM file of the certificate to end clients' TLS with; taken anew when it changes")
	f.StringVar(&d.KeyFile, "gateway-tls-key-file", "", "PEM file of its key")
	f.StringVar(&d.ClientCAFile, "gateway-tls-client-ca-file", "", "PEM file of who signs the certificates that clients must have; none if empty")
	f.StringVar((*string)(&d.TLS), "gateway-tls", string(TLSRequired), "clients without TLS, where there is a certificate: required refuses them, optional serves them too")
	f.Var(&d.ProxyFrom, "gateway-proxy-protocol-from", "networks, with commas, of balancers whose connections begin with a PROXY header")
}

func (l *Limits) addFlags(f *flag.FlagSet) {
	f.IntVar(&l.MaxSessions, "gateway-max-sessions", DefaultMaxSessions, "client connections held at once")
	f.IntVar(&l.MaxParked, "gateway-max-parked", DefaultMaxParked, "of them, waiting for a MAIN")
	f.IntVar(&l.MaxUnauthenticated, "gateway-max-unauthenticated", DefaultMaxUnauthenticated, "of them, that have not sent their login; more are accepted as these go on, or are silent for a second")
	f.IntVar(&l.MaxAttaching, "gateway-max-attaching", DefaultMaxAttaching, "of them, connecting to MAIN at the same time")
	f.IntVar(&l.MaxLogins, "gateway-max-logins", DefaultMaxLogins, "of them, logging in to MAIN at the same time")
	f.IntVar(&l.MaxReady, "gateway-max-ready", DefaultMaxReady, "connections kept logged in to the partner, for clients to move to")
	f.IntVar(&l.RerunLimit, "gateway-rerun-limit", DefaultRerunLimit, "bytes of one transaction that are kept to run it again")
	f.IntVar(&l.RerunTotal, "gateway-rerun-total", DefaultRerunTotal, "bytes of all transactions that are kept for that")
}

func (t *Timeouts) addFlags(f *flag.FlagSet) {
	f.DurationVar(&t.HandshakeTimeout, "gateway-handshake-timeout", DefaultHandshakeTimeout, "time for a client's first bytes")
	f.DurationVar(&t.LoginTimeout, "gateway-login-timeout", DefaultLoginTimeout, "time for each message of a client's login")
	f.DurationVar(&t.FinishTimeout, "gateway-finish-timeout", DefaultFinishTimeout, "how long a replaced MAIN may take for the answers that it owes")
	f.DurationVar(&t.HoldTimeout, "gateway-hold-timeout", DefaultHoldTimeout, "how long a client is parked while there is no MAIN")
	f.DurationVar(&t.DialTimeout, "gateway-dial-timeout", DefaultDialTimeout, "time for a connection to MAIN")
	f.DurationVar(&t.VerifyInterval, "gateway-verify-interval", DefaultVerifyInterval, "time between two questions for MAIN's role")
	f.DurationVar(&t.StuckTimeout, "gateway-stuck-timeout", DefaultStuckTimeout, "how long a client may take nothing while MAIN changes")
	f.DurationVar(&t.NoopInterval, "gateway-noop-interval", DefaultNoopInterval, "time between two NOOPs to a client that is silent; 0 is never")
	f.DurationVar(&t.StaleAfter, "gateway-stale-after", DefaultStaleAfter, "how long the API server may be silent before MAIN itself must show that it was not replaced")
	f.DurationVar(&t.IsolationGrace, "gateway-isolation-grace", DefaultIsolationGrace, "how long it may fail to show that")
	f.DurationVar(&t.DrainTimeout, "gateway-drain-timeout", DefaultDrainTimeout, "how long connections may end by themselves at a stop")
}

// Validate returns everything that is wrong, by flag, with what would be right.
// Other than New it takes no zero for a default.
func (c Config) Validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	if err := Listens(c.Listen); err != nil {
		wrong("gateway-listen", "%s", err)
	}
	if c.Read.Listen != "" {
		if err := Listens(c.Read.Listen); err != nil {
			wrong("gateway-read-listen", "%s", err)
		}
	}
	if !slices.Contains([]ReadFallback{ReadFromMain, ReadFromNobody}, c.Read.Fallback) {
		wrong("gateway-read-fallback", "unknown value %q; use main or none", c.Read.Fallback)
	}
	if !slices.Contains([]Rerun{RerunOff, RerunUnseen, RerunVerified}, c.Rerun) {
		wrong("gateway-rerun", "unknown value %q; use off, unseen or verified", c.Rerun)
	}
	if !slices.Contains([]Administration{AdministrationAllowed, AdministrationDenied}, c.Administration) {
		wrong("gateway-administration", "unknown value %q; use allowed or denied", c.Administration)
	}
	c.Door.validate(wrong)
	if !slices.Contains([]Isolation{IsolationHold, IsolationServe}, c.OnIsolation) {
		wrong("gateway-on-isolation", "unknown value %q; use hold or serve", c.OnIsolation)
	}
	if c.IsolationGrace <= c.VerifyInterval {
		wrong("gateway-isolation-grace", "%s is too short; use more than --gateway-verify-interval, %s", c.IsolationGrace, c.VerifyInterval)
	}
	for _, f := range []struct {
		flag     string
		positive bool
	}{
		{"gateway-max-sessions", c.MaxSessions > 0}, {"gateway-max-parked", c.MaxParked > 0},
		{"gateway-max-unauthenticated", c.MaxUnauthenticated > 0},
		{"gateway-max-attaching", c.MaxAttaching > 0}, {"gateway-max-logins", c.MaxLogins > 0},
		{"gateway-max-ready", c.MaxReady > 0}, {"gateway-rerun-limit", c.RerunLimit > 0}, {"gateway-rerun-total", c.RerunTotal > 0},
		{"gateway-handshake-timeout", c.HandshakeTimeout > 0}, {"gateway-login-timeout", c.LoginTimeout > 0}, {"gateway-finish-timeout", c.FinishTimeout > 0},
		{"gateway-hold-timeout", c.HoldTimeout > 0}, {"gateway-dial-timeout", c.DialTimeout > 0},
		{"gateway-verify-interval", c.VerifyInterval > 0}, {"gateway-drain-timeout", c.DrainTimeout > 0},
		{"gateway-stale-after", c.StaleAfter > 0}, {"gateway-stuck-timeout", c.StuckTimeout > 0},
		{"gateway-noop-interval", c.NoopInterval >= 0},
	} {
		if !f.positive {
			wrong(f.flag, "use more than 0")
		}
	}
	if c.MaxParked > c.MaxSessions {
		wrong("gateway-max-parked", "%d is more than --gateway-max-sessions, %d", c.MaxParked, c.MaxSessions)
	}
	return errors.Join(errs...)
}

func (d *Door) validate(wrong func(flag, format string, args ...any)) {
	if !slices.Contains([]TLSMode{TLSRequired, TLSOptional}, d.TLS) {
		wrong("gateway-tls", "unknown value %q; use required or optional", d.TLS)
	}
	if (d.CertFile == "") != (d.KeyFile == "") {
		wrong("gateway-tls-cert-file", "it needs --gateway-tls-key-file, and the other way round")
	}
	if d.ClientCAFile != "" && d.CertFile == "" {
		wrong("gateway-tls-client-ca-file", "clients show certificates in TLS only; give --gateway-tls-cert-file too")
	}
}

// Listens returns what is wrong with a host:port to listen at.
func Listens(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%w; use host:port or :port", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port %q is none; use a number up to 65535", port)
	}
	return nil
}
