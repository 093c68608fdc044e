package web

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"time"
)

const (
	readHeaderTime = 5 * time.Second
	readTime       = 10 * time.Second
	writeTime      = 30 * time.Second
	idleTime       = 60 * time.Second
	maxHeader      = 16 << 10
	// profileTime is for a profile of half a minute, and more.
	profileTime = 2 * time.Minute
	// drained is when those who were refused at the end may ask the next process.
	drained = 5 * time.Second
	// readers is how many answers are worked on at a time: the same servers
	// serve the runs.
	readers = 4

	standardConns = 1024
)

// Server serves one process's routes. Create it with [New].
type Server struct {
	Config

	mux     *http.ServeMux
	table   []route
	open    map[string]bool
	streams map[string]bool
	tries   tries
	admits  admissions
	reading chan struct{}
	monitor *monitor

	// stopping ends at the beginning of the end, checking when the checks do.
	stopping, checking context.Context //nolint:containedctx // the server's own life
	stop, uncheck      context.CancelFunc
	servers            []*http.Server
	background         sync.WaitGroup
}

// New makes a server, which serves nothing before [Server.Start].
func New(c Config) *Server {
	s := &Server{
		Config: c, mux: http.NewServeMux(), open: map[string]bool{}, streams: map[string]bool{},
		reading: make(chan struct{}, readers), monitor: newMonitor(c),
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.checking, s.uncheck = context.WithCancel(context.Background())
	s.table = s.routes()
	for _, r := range s.table {
		s.mux.Handle(r.pattern, r.handler)
		s.open[r.pattern], s.streams[r.pattern] = r.open, r.streams
	}
	return s
}

// Start serves the listener, in the background, until [Server.Stop], and begins
// to check what /readyz depends on. It is called once.
func (s *Server) Start(l net.Listener) {
	most := s.MaxConns
	if most == 0 {
		most = standardConns
	}
	s.background.Go(func() { s.monitor.run(s.checking) })
	s.serve(&conns{Listener: l, most: most}, s.gate(), writeTime)
}

// StartPprof serves the runtime's profiles on a listener of their own, which
// must be one of loopback: it asks for no token.
func (s *Server) StartPprof(l net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.serve(l, s.guarded(mux), profileTime)
}

func (s *Server) serve(l net.Listener, h http.Handler, write time.Duration) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTime, ReadTimeout: readTime, WriteTimeout: write, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, DisableGeneralOptionsHandler: true, ConnContext: withConn,
		ErrorLog: log.New(errorLog{s.Tell}, "", 0), //nolint:forbidigo // the library takes no other log
	}
	s.servers = append(s.servers, server)
	s.background.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.Tell(Event{Text: "the server has ended", Err: err})
		}
	})
}

// errorLog hands on what the library logs.
type errorLog struct{ tell func(Event) }

func (l errorLog) Write(p []byte) (int, error) {
	l.tell(Event{Text: "http", Err: errors.New(string(p))})
	return len(p), nil
}

// Stopping turns /readyz red for good, ends streams and starts no run any more;
// all else is still answered. It can be called more than once.
func (s *Server) Stopping() { s.stop() }

// Stop closes the listeners, lets the answers in work go on until ctx ends, and
// returns when nothing of the server is left.
func (s *Server) Stop(ctx context.Context) {
	s.stop()
	for _, server := range s.servers {
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	}
	s.uncheck()
	s.background.Wait()
}

// Routes returns the patterns of all routes, as [http.ServeMux] has them, and
// whether each is open to everybody.
func (s *Server) Routes() map[string]bool {
	all := make(map[string]bool, len(s.table))
	for _, r := range s.table {
		all[r.pattern] = r.open
	}
	return all
}

// IsLoopback reports whether "host:port" is an address of this machine alone.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
