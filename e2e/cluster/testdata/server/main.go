// Command server is the image of the cluster's own tests: it serves its health,
// its environment and the files of its data directory over HTTP.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	data := flag.String("data", "", "directory whose files are served; each start appends to its file starts")
	once := flag.String("once", "", "append this line to the data directory's file once, and end")
	control := flag.String("control-socket", "", "unix socket to take the network mode on")
	linger := flag.Duration("linger", 0, "time from SIGTERM to the end")
	flag.Parse()

	if *once != "" {
		appendLine(*data, "once", *once)
		return
	}
	appendLine(*data, "starts", time.Now().Format(time.RFC3339Nano))
	go endOnSignal(*linger)
	s := &server{data: *data}
	if *control != "" {
		l, err := net.Listen("unix", *control)
		if err != nil {
			log.Fatal(err)
		}
		go func() { log.Fatal(http.Serve(l, http.HandlerFunc(s.setNetwork))) }()
	}
	http.HandleFunc("GET /healthz", s.health)
	http.HandleFunc("GET /env/{name}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getenv(r.PathValue("name"))) })
	http.HandleFunc("GET /args", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Args[1:], "\n")) })
	http.HandleFunc("GET /data/{name}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(s.data, r.PathValue("name")))
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

type server struct {
	data string
	mode atomic.Value
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	if s.mode.Load() == "refuse" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *server) setNetwork(_ http.ResponseWriter, r *http.Request) {
	s.mode.Store(r.FormValue("mode"))
}

func endOnSignal(linger time.Duration) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	<-term
	log.Print("SIGTERM at ", time.Now().UnixMilli())
	time.Sleep(linger)
	log.Print("end")
	os.Exit(0)
}

func appendLine(dir, name, line string) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintln(f, line); err != nil {
		log.Fatal(err)
	}
}
