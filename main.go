// Memgraph-controller keeps a Memgraph StatefulSet writable: see README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"memgraph-controller/controller"
	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
)

// watchAlive makes client-go notice within 10 s that a connection to the API
// server is dead, which by default takes 45: a silent watch is a blind one.
var watchAlive = map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "5", "HTTP2_PING_TIMEOUT_SECONDS": "5"}

func main() {
	for name, value := range watchAlive {
		if os.Getenv(name) == "" {
			os.Setenv(name, value)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "memgraph-controller:", err)
		os.Exit(1)
	}
}

// run executes one command line. Logs go to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:           "memgraph-controller",
		Short:         "Keep a Memgraph StatefulSet writable through the loss of any of its pods",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(stderr), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "memgraph-controller %s %s\n", version, runtime.Version())
			return err
		},
	}
}

// options are the flags of run, as they were given.
type options struct {
	controller controller.Config
	gateway    gateway.Config

	kubeconfig             string
	httpListen             string
	registerBy             string
	rerun, administration  string
	userFile, passwordFile string
	logLevel               string
	shutdownDelay          time.Duration
	stderr                 io.Writer
}

func runCommand(stderr io.Writer) *cobra.Command {
	o := &options{controller: controller.Defaults, stderr: stderr}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Control one StatefulSet and carry its clients until SIGTERM",
		Long: `Run watches one Memgraph StatefulSet, keeps its MAIN writable while it is the
leader, and carries Bolt clients to the current MAIN whether it is or not.

The cluster is that of --kubeconfig, $KUBECONFIG, ~/.kube/config or, inside a
pod, its ServiceAccount. Memgraph's credentials come from $MEMGRAPH_USER and
$MEMGRAPH_PASSWORD or from the files of --user-file and --password-file; with
neither, logins carry none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addFlags(cmd)
	return cmd
}

func (o *options) addFlags(cmd *cobra.Command) {
	hostname, _ := os.Hostname()
	f, c, g := cmd.Flags(), &o.controller, &o.gateway
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig; see above for what is used without it")
	f.StringVar(&c.Namespace, "namespace", "", "namespace of the StatefulSet (default: the kubeconfig's, or the pod's own)")
	f.StringVar(&c.StatefulSet, "statefulset", "memgraph", "name of the Memgraph StatefulSet")
	f.StringVar(&c.Identity, "identity", hostname, "name of this replica in the lease and the history; must be unique")
	f.StringVar(&o.registerBy, "register-by", string(c.RegisterBy), "how MAIN finds replicas: name (stable DNS name) or ip")
	f.StringVar(&o.userFile, "user-file", "", "file that holds Memgraph's user name")
	f.StringVar(&o.passwordFile, "password-file", "", "file that holds Memgraph's password")

	f.DurationVar(&c.LeaseDuration, "lease-duration", c.LeaseDuration, "how long other replicas wait for a silent leader; whole seconds")
	f.DurationVar(&c.RenewDeadline, "lease-renew-deadline", c.RenewDeadline, "how long a leader that cannot renew its lease goes on")
	f.DurationVar(&c.RetryPeriod, "lease-retry-period", c.RetryPeriod, "time between two attempts to get or renew the lease")
	f.DurationVar(&c.ObserveInterval, "observe-interval", c.ObserveInterval, "time between two looks at a pod")
	f.DurationVar(&c.ProbeTimeout, "probe-timeout", c.ProbeTimeout, "deadline of one question for the role of MAIN or its partner")
	f.DurationVar(&c.Settle, "handover-settle", c.Settle, "time that a planned change of MAIN gives other gateways to park")
	f.IntVar(&c.UrgentWorkers, "urgent-workers", c.UrgentWorkers, "workers of the urgent lane")
	f.IntVar(&c.RoutineWorkers, "routine-workers", c.RoutineWorkers, "workers of the routine lane: pods that are looked at in parallel")

	f.StringVar(&g.Listen, "gateway-listen", ":7687", "host:port for Bolt clients")
	f.IntVar(&g.MaxSessions, "gateway-max-sessions", gateway.DefaultMaxSessions, "client connections held at once")
	f.IntVar(&g.MaxParked, "gateway-max-parked", gateway.DefaultMaxParked, "of them, waiting for a MAIN")
	f.IntVar(&g.MaxAttaching, "gateway-max-attaching", gateway.DefaultMaxAttaching, "of them, connecting to MAIN at the same time")
	f.IntVar(&g.MaxLogins, "gateway-max-logins", gateway.DefaultMaxLogins, "of them, logging in to MAIN at the same time")
	f.IntVar(&g.MaxReady, "gateway-max-ready", gateway.DefaultMaxReady, "connections kept logged in to the partner, for clients to move to")
	f.StringVar(&o.rerun, "gateway-rerun", string(gateway.RerunVerified), "transactions that a change of MAIN interrupts before their commit are run again: off, unseen (if the client saw no result) or verified (if the results are the same)")
	f.IntVar(&g.RerunLimit, "gateway-rerun-limit", gateway.DefaultRerunLimit, "bytes of one transaction that are kept for that")
	f.IntVar(&g.RerunTotal, "gateway-rerun-total", gateway.DefaultRerunTotal, "bytes of all transactions that are kept for that")
	f.StringVar(&o.administration, "gateway-administration", string(gateway.AdministrationAllowed), "clients' statements about replication: allowed or denied")
	f.DurationVar(&g.HandshakeTimeout, "gateway-handshake-timeout", gateway.DefaultHandshakeTimeout, "time for a client's first bytes")
	f.DurationVar(&g.LoginTimeout, "gateway-login-timeout", gateway.DefaultLoginTimeout, "time for each message of a client's login")
	f.DurationVar(&g.FinishTimeout, "gateway-finish-timeout", gateway.DefaultFinishTimeout, "how long a replaced MAIN may take for the answers that it owes")
	f.DurationVar(&g.HoldTimeout, "gateway-hold-timeout", gateway.DefaultHoldTimeout, "how long a client is parked while there is no MAIN")
	f.DurationVar(&g.DialTimeout, "gateway-dial-timeout", gateway.DefaultDialTimeout, "time for a connection to MAIN")
	f.DurationVar(&g.VerifyInterval, "gateway-verify-interval", gateway.DefaultVerifyInterval, "time between two questions for MAIN's role")
	f.DurationVar(&g.DrainTimeout, "gateway-drain-timeout", gateway.DefaultDrainTimeout, "how long connections may end by themselves at a stop")

	f.StringVar(&o.httpListen, "http-listen", ":8080", "host:port for /healthz, /readyz, /metrics and /status")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 5*time.Second, "how long clients are still accepted after SIGTERM, for endpoints to follow")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
}

// validate names every flag that is wrong.
func (o *options) validate() error {
	o.controller.RegisterBy = controller.RegisterBy(o.registerBy)
	errs := []error{o.controller.Validate(), listens("gateway-listen", o.gateway.Listen), listens("http-listen", o.httpListen)}
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	o.gateway.Rerun, o.gateway.Administration = gateway.Rerun(o.rerun), gateway.Administration(o.administration)
	g := o.gateway
	if !slices.Contains([]gateway.Rerun{gateway.RerunOff, gateway.RerunUnseen, gateway.RerunVerified}, g.Rerun) {
		wrong("gateway-rerun", "unknown value %q; use off, unseen or verified", o.rerun)
	}
	if !slices.Contains([]gateway.Administration{gateway.AdministrationAllowed, gateway.AdministrationDenied}, g.Administration) {
		wrong("gateway-administration", "unknown value %q; use allowed or denied", o.administration)
	}
	for _, f := range []struct {
		flag     string
		positive bool
	}{
		{"gateway-max-sessions", g.MaxSessions > 0}, {"gateway-max-parked", g.MaxParked > 0},
		{"gateway-max-attaching", g.MaxAttaching > 0}, {"gateway-max-logins", g.MaxLogins > 0},
		{"gateway-max-ready", g.MaxReady > 0}, {"gateway-rerun-limit", g.RerunLimit > 0}, {"gateway-rerun-total", g.RerunTotal > 0},
		{"gateway-handshake-timeout", g.HandshakeTimeout > 0}, {"gateway-login-timeout", g.LoginTimeout > 0}, {"gateway-finish-timeout", g.FinishTimeout > 0},
		{"gateway-hold-timeout", g.HoldTimeout > 0}, {"gateway-dial-timeout", g.DialTimeout > 0},
		{"gateway-verify-interval", g.VerifyInterval > 0}, {"gateway-drain-timeout", g.DrainTimeout > 0},
	} {
		if !f.positive {
			wrong(f.flag, "use more than 0")
		}
	}
	if g.MaxParked > g.MaxSessions {
		wrong("gateway-max-parked", "%d is more than --gateway-max-sessions, %d", g.MaxParked, g.MaxSessions)
	}
	if o.shutdownDelay < 0 {
		wrong("shutdown-delay", "%s is negative; use 0 or more", o.shutdownDelay)
	}
	return errors.Join(errs...)
}

// listens returns what is wrong with a flag that takes host:port.
func listens(flag, value string) error {
	_, port, err := net.SplitHostPort(value)
	if err != nil {
		return fmt.Errorf("--%s: %w; use host:port or :port", flag, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--%s: port %q is none; use a number up to 65535", flag, port)
	}
	return nil
}

// credentials come from files or the environment, never from a flag's value. A
// user without a password, or the other way round, is a mistake: to log in as
// somebody else than was meant would only fail later.
func (o *options) credentials() (bolt.Auth, error) {
	auth := bolt.Auth{User: os.Getenv("MEMGRAPH_USER"), Password: os.Getenv("MEMGRAPH_PASSWORD")}
	from := "MEMGRAPH_USER, MEMGRAPH_PASSWORD"
	if o.userFile != "" || o.passwordFile != "" {
		if auth != (bolt.Auth{}) {
			return bolt.Auth{}, errors.New("--user-file, --password-file: MEMGRAPH_USER or MEMGRAPH_PASSWORD is set too; unset them or drop the flags")
		}
		from = "--user-file, --password-file"
		if o.userFile == "" || o.passwordFile == "" {
			return bolt.Auth{}, errors.New("--user-file, --password-file: only one of them is given; give both or neither")
		}
		for _, f := range []struct {
			flag, path string
			into       *string
		}{{"user-file", o.userFile, &auth.User}, {"password-file", o.passwordFile, &auth.Password}} {
			content, err := os.ReadFile(f.path)
			if err != nil {
				return bolt.Auth{}, fmt.Errorf("--%s: %w", f.flag, err)
			}
			*f.into = strings.TrimRight(string(content), "\r\n")
		}
		if auth.User == "" {
			return bolt.Auth{}, errors.New("--user-file: it is empty")
		}
	}
	if (auth.User == "") != (auth.Password == "") {
		return bolt.Auth{}, fmt.Errorf("%s: one of the two is empty; give both or neither", from)
	}
	return auth, nil
}

// run builds the parts and runs them until ctx ends or one fails.
func (o *options) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level: unknown value %q; use debug, info, warn or error", o.logLevel)
	}
	log := slog.New(slog.NewJSONHandler(o.stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(log)

	restConfig, err := o.cluster()
	if err != nil {
		return err
	}
	if err := o.validate(); err != nil {
		return err
	}
	auth, err := o.credentials()
	if err != nil {
		return err
	}
	return o.serve(ctx, restConfig, auth, log)
}

// cluster finds the API server, and the namespace where none was given.
func (o *options) cluster() (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	restConfig, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	if o.controller.Namespace == "" {
		if o.controller.Namespace, _, err = loader.Namespace(); err != nil {
			return nil, fmt.Errorf("--namespace: %w", err)
		}
	}
	return restConfig, nil
}

// serve runs controller, gateway and HTTP server. At the end of ctx the
// controller stops first, its lease released, and the gateway last.
func (o *options) serve(ctx context.Context, restConfig *rest.Config, auth bolt.Auth, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	var suspect atomic.Pointer[func()] // the controller's, once there is one
	o.gateway.Auth, o.gateway.Logger, o.gateway.Registerer = auth, log, registry
	o.gateway.Lost = func(string, int64) {
		if f := suspect.Load(); f != nil {
			(*f)()
		}
	}
	gate, err := gateway.New(o.gateway)
	if err != nil {
		return err
	}
	urgent, routine, err := clientsets(restConfig)
	if err != nil {
		return err
	}
	client, urgentProber, prober := memgraph.NewClient(auth), memgraph.NewProber(auth), memgraph.NewProber(auth)
	defer urgentProber.Close()
	defer prober.Close()
	closing := context.WithoutCancel(ctx)
	defer func() { _ = within(closing, client.Close) }()
	control, err := controller.New(o.controller, controller.Dependencies{
		Urgent: urgent, Routine: routine, UrgentProber: urgentProber, Prober: prober,
		Asker: client, Roles: client, Registrations: client,
		Forget: func(addr string) {
			urgentProber.Forget(addr)
			prober.Forget(addr)
			_ = within(closing, func(ctx context.Context) error { return client.Forget(ctx, addr) })
		},
		Gateway: gate, Log: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	suspect.Store(new(control.Suspect))
	server := &httpServer{control: control, gate: gate, registry: registry, stopping: ctx}
	return o.runAll(ctx, control, gate, server)
}

// within bounds what closes connections: the peer may be gone.
func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return f(ctx)
}

// runAll ends with the first error, or in order once ctx has ended: leadership
// is given up at once, clients are still accepted for a while and then drained,
// and the record is watched to the last, since the gateway obeys it till then.
func (o *options) runAll(ctx context.Context, control *controller.Controller, gate *gateway.Gateway, server *httpServer) error {
	listener, err := net.Listen("tcp", o.httpListen)
	if err != nil {
		return fmt.Errorf("--http-listen: %w", err)
	}
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	leading, stopLeading := context.WithCancel(failed)
	carrying, stopCarrying := context.WithCancel(failed)
	serving, stopServing := context.WithCancel(failed)
	defer context.AfterFunc(ctx, stopLeading)()
	group.Go(func() error {
		control.Lead(leading)
		select {
		case <-time.After(o.shutdownDelay):
		case <-failed.Done():
		}
		stopCarrying()
		return nil
	})
	group.Go(func() error {
		defer stopServing()
		return gate.Run(carrying)
	})
	group.Go(func() error { return control.Run(serving) })
	group.Go(func() error { return server.run(serving, listener) })
	return group.Wait()
}

// clientsets returns one for record and lease, with a connection of its own and
// no client-side rate limit, and one for all else.
func clientsets(base *rest.Config) (urgent, routine *kubernetes.Clientset, err error) {
	base = rest.AddUserAgent(rest.CopyConfig(base), "memgraph-controller")
	unlimited := rest.CopyConfig(base)
	unlimited.QPS = -1
	unlimited.Dial = (&net.Dialer{Timeout: 2 * time.Second}).DialContext // another dialer, another connection
	if urgent, err = kubernetes.NewForConfig(unlimited); err != nil {
		return nil, nil, fmt.Errorf("client of the API server: %w", err)
	}
	if routine, err = kubernetes.NewForConfig(base); err != nil {
		return nil, nil, fmt.Errorf("client of the API server: %w", err)
	}
	return urgent, routine, nil
}

// httpServer answers probes, scrapes and people.
type httpServer struct {
	control  *controller.Controller
	gate     *gateway.Gateway
	registry *prometheus.Registry
	stopping context.Context // ends with SIGTERM
}

// run serves until ctx ends.
func (s *httpServer) run(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /status", s.status)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// ready means that the gateway knows whom to serve, not that MAIN is well: an
// endpoint that is taken away while MAIN changes would turn clients away who
// could have been parked.
func (s *httpServer) ready(w http.ResponseWriter, _ *http.Request) {
	switch {
	case s.stopping.Err() != nil:
		http.Error(w, "stopping", http.StatusServiceUnavailable)
	case !s.control.Synced():
		http.Error(w, "caches are not synced", http.StatusServiceUnavailable)
	case s.gate.Status().Generation == 0:
		http.Error(w, "no MAIN has been decided on yet", http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, "ok\n")
	}
}

func (s *httpServer) status(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(struct {
		controller.Status
		Gateway gateway.Status `json:"gateway"`
	}{s.control.Status(), s.gate.Status()})
}
