package gateway_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
	"github.com/alpha-oracle/worker/providers/simulator/gateway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client speaks the protocol by hand.
type client struct {
	net.Conn
	in *bufio.Reader
}

// bubble runs a test on a fake clock, with a gateway to itself. The clock shows
// a Saturday, 2000-01-01.
func bubble(t *testing.T, c gateway.Config, run func(*testing.T, *gateway.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := gateway.New(c)
		t.Cleanup(s.Close)
		run(t, s)
	})
}

// connect shakes hands.
func connect(t *testing.T, s *gateway.Server, id string) *client {
	t.Helper()
	conn, err := s.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &client{conn, bufio.NewReader(conn)}
	c.raw(t, "API\x00\x00\x00\x00\x09v100..176")
	if hello := c.read(t); len(hello) != 2 || hello[0] != "176" {
		t.Fatalf("hello = %q, want the version 176 and the time", hello)
	}
	c.send(t, "71", "2", id, "")
	return c
}

// ready shakes hands and reads what comes before the first request.
func ready(t *testing.T, s *gateway.Server) *client {
	t.Helper()
	c := connect(t, s, "2")
	for _, want := range []string{"9", "15", "4", "4", "4"} {
		if m := c.read(t); m[0] != want {
			t.Fatalf("message %q, want one of type %s", m, want)
		}
	}
	return c
}

func (c *client) raw(t *testing.T, bytes string) {
	t.Helper()
	if _, err := io.WriteString(c.Conn, bytes); err != nil {
		t.Fatal(err)
	}
}

func (c *client) send(t *testing.T, fields ...string) {
	t.Helper()
	payload := strings.Join(fields, "\x00") + "\x00"
	c.raw(t, string(binary.BigEndian.AppendUint32(nil, uint32(len(payload))))+payload)
}

func (c *client) read(t *testing.T) []string {
	t.Helper()
	m, err := c.next()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (c *client) next() ([]string, error) {
	var head [4]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return nil, err
	}
	payload := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(c.in, payload)
	return strings.Split(strings.TrimSuffix(string(payload), "\x00"), "\x00"), err
}

func (c *client) ask(t *testing.T, id int, symbol, end, duration string) {
	t.Helper()
	c.send(t, "20", strconv.Itoa(id), "0", symbol, "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0",
		end, "1 day", duration, "1", "TRADES", "1", "0", "")
}

// wantCode reads an error.
func (c *client) wantCode(t *testing.T, id, code int, text string) {
	t.Helper()
	m := c.read(t)
	if len(m) != 6 || m[0] != "4" || m[2] != strconv.Itoa(id) || m[3] != strconv.Itoa(code) || !strings.Contains(m[4], text) {
		t.Fatalf("message %q, want code %d of request %d, with %q", m, code, id, text)
	}
}

// wantEnd reads to the end of the connection.
func (c *client) wantEnd(t *testing.T) {
	t.Helper()
	for {
		if _, err := c.next(); err != nil {
			return
		}
	}
}

func wantViolations(t *testing.T, s *gateway.Server, parts ...string) {
	t.Helper()
	got := s.Report().Violations
	if len(got) != len(parts) {
		t.Fatalf("violations %q, want %d", got, len(parts))
	}
	for i, part := range parts {
		if !strings.Contains(got[i], part) {
			t.Errorf("violation %q, want %q in it", got[i], part)
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		c := ready(t, s)
		c.ask(t, 7, "BRK B", "19991224-05:00:00", "5 D")
		m := c.read(t)
		days := []market.Date{market.NewDate(1999, 12, 20), market.NewDate(1999, 12, 21), market.NewDate(1999, 12, 22), market.NewDate(1999, 12, 23)}
		if len(m) != 5+8*len(days) || m[0] != "17" || m[1] != "7" || m[4] != strconv.Itoa(len(days)) {
			t.Fatalf("answer %q, want %d bars for request 7", m, len(days))
		}
		for i, row := range slices.Collect(slices.Chunk(m[5:], 8)) {
			bar := simulator.Bar("BRK.B", days[i])
			if row[0] != days[i].Time().Format("20060102") || row[4] != strconv.FormatFloat(bar.Close, 'f', -1, 64) || row[5] != strconv.FormatInt(bar.Volume, 10) {
				t.Errorf("bar %q, want %+v", row, bar)
			}
		}
		c.ask(t, 8, "IBM", "19991101-05:00:00", "1 D")
		c.wantCode(t, 8, 162, "HMDS query returned no data: IBM@SMART Trades")
		c.ask(t, 9, "IBM", "", "400 D")
		c.wantCode(t, 9, 321, "400 D")
		c.ask(t, 10, "lower", "", "1 D")
		c.wantCode(t, 10, 200, "No security definition")
		calls := s.Calls()
		if len(calls) != 4 || calls[0].Symbol != "BRK.B" || calls[0].Outcome != "bars" || calls[0].Client != 2 || calls[0].Duration != "5 D" {
			t.Errorf("calls = %+v", calls)
		}
		if r := s.Report(); r.Requests != 4 || r.MaxOpen != 1 || r.Open != 0 || r.Connected != 1 || r.BySymbol["IBM"] != 2 {
			t.Errorf("report = %+v", r)
		}
		wantViolations(t, s)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		c := ready(t, s)
		if err := s.Fault("", gateway.NoAnswer, 1); err != nil {
			t.Fatal(err)
		}
		c.ask(t, 1, "AAPL", "", "5 D")
		time.Sleep(time.Minute)
		if open := s.Report().Open; open != 1 {
			t.Errorf("%d requests are open, want 1", open)
		}
		c.send(t, "25", "1", "1")
		c.wantCode(t, 1, 162, "API historical data query cancelled: 1")
		c.send(t, "25", "1", "1")
		c.wantCode(t, 1, 366, "ticker id:1")
		if r := s.Report(); r.Open != 0 || r.Cancels != 2 {
			t.Errorf("report = %+v", r)
		}
	})
}

// TestPacing: each of IB's limits is watched, and its breach is answered.
func TestPacing(t *testing.T) {
	t.Parallel()
	t.Run("identical", func(t *testing.T) {
		t.Parallel()
		bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
			c := ready(t, s)
			c.ask(t, 1, "AAPL", "", "5 D")
			c.read(t)
			time.Sleep(15*time.Second - 1)
			c.ask(t, 2, "AAPL", "", "5 D")
			c.wantCode(t, 2, 162, "pacing violation")
			wantViolations(t, s, "AAPL: identical requests")
			time.Sleep(15 * time.Second)
			c.ask(t, 3, "AAPL", "", "5 D")
			if m := c.read(t); m[0] != "17" {
				t.Errorf("message %q, want bars", m)
			}
		})
	})
	t.Run("identical, scaled", func(t *testing.T) {
		t.Parallel()
		bubble(t, gateway.Config{Scale: 100}, func(t *testing.T, s *gateway.Server) {
			c := ready(t, s)
			for id := range 3 {
				c.ask(t, id, "AAPL", "", "5 D")
				c.read(t)
				time.Sleep(150 * time.Millisecond)
			}
			wantViolations(t, s)
		})
	})
	t.Run("one contract", func(t *testing.T) {
		t.Parallel()
		bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
			c := ready(t, s)
			for id := 1; id <= 6; id++ {
				c.ask(t, id, "AAPL", "", strconv.Itoa(id)+" D")
				c.read(t)
			}
			wantViolations(t, s, "AAPL: 6 requests within 2s")
		})
	})
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		bubble(t, gateway.Config{Latency: time.Hour}, func(t *testing.T, s *gateway.Server) {
			c := ready(t, s)
			for id := range 51 {
				c.ask(t, id, "S"+strconv.Itoa(id), "", "5 D")
				time.Sleep(100 * time.Millisecond)
			}
			wantViolations(t, s, "51 open requests")
		})
	})
	t.Run("messages", func(t *testing.T) {
		t.Parallel()
		bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
			c := ready(t, s)
			time.Sleep(time.Second)
			go func() { // until the connection is cut
				for {
					if _, err := c.Write([]byte("\x00\x00\x00\x0725\x001\x009\x00")); err != nil {
						return
					}
				}
			}()
			for range 50 {
				c.wantCode(t, 9, 366, "")
			}
			for range 3 {
				c.wantCode(t, -1, 100, "Max rate of messages per second")
			}
			c.wantEnd(t)
			wantViolations(t, s, "51 messages", "52 messages", "53 messages")
		})
	})
}

// TestOffences: what a client of the protocol does not do is noted.
func TestOffences(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(t *testing.T, c *client)
		want string
	}{
		"another contract": {func(t *testing.T, c *client) {
			c.send(t, "20", "1", "0", "AAPL", "STK", "", "0.0", "", "", "NYSE", "", "USD", "", "", "0", "", "1 day", "5 D", "1", "TRADES", "1", "0", "")
		}, "NYSE"},
		"another form": {func(t *testing.T, c *client) {
			c.send(t, "20", "1", "0", "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0", "", "5 D", "1 day", "1", "TRADES", "1", "0", "")
		}, "want"},
		"a field too many": {func(t *testing.T, c *client) {
			c.send(t, "20", "6", "1", "0", "AAPL", "STK", "", "0.0", "", "", "SMART", "", "USD", "", "", "0", "", "1 day", "5 D", "1", "TRADES", "1", "0", "")
		}, "24 fields, want 23"},
		"the same id": {func(t *testing.T, c *client) {
			c.ask(t, 1, "AAPL", "", "5 D")
			c.read(t)
			c.ask(t, 1, "MSFT", "", "5 D")
		}, "used twice"},
		"no zero at the end": {func(t *testing.T, c *client) { c.raw(t, "\x00\x00\x00\x0271") }, "does not end with a zero byte"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
				one := ready(t, s)
				c.do(t, one)
				synctest.Wait()
				wantViolations(t, s, c.want)
			})
		})
	}
}

func TestClientID(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		first := ready(t, s)
		second := connect(t, s, "2")
		second.wantCode(t, -1, 326, "already in use")
		second.wantEnd(t)
		connect(t, s, "3").read(t)
		first.ask(t, 1, "AAPL", "", "5 D")
		if m := first.read(t); m[0] != "17" {
			t.Errorf("message %q, want bars for the first client", m)
		}
		s.Take(4, true)
		connect(t, s, "4").wantCode(t, -1, 326, "already in use")
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		c := ready(t, s)
		go s.Restart(time.Minute)
		if _, err := c.next(); err == nil || c.in.Buffered() != 0 {
			t.Errorf("a message came, and %v", err)
		}
		conn, err := s.Dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a client was let in while the gateway was away")
		}
		time.Sleep(time.Minute)
		ready(t, s)
	})
}

func TestSilence(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		c := ready(t, s)
		s.Silence(time.Minute)
		c.ask(t, 1, "AAPL", "", "5 D")
		time.Sleep(time.Minute)
		c.ask(t, 2, "MSFT", "", "5 D")
		if m := c.read(t); m[1] != "2" {
			t.Errorf("message %q, want the answer to the second request alone", m)
		}
	})
}

// TestOutage: a gateway without a link says so to all, also to those who come
// later, and answers when the link is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	bubble(t, gateway.Config{}, func(t *testing.T, s *gateway.Server) {
		c := ready(t, s)
		go s.Notify(1100)
		c.wantCode(t, -1, 1100, "lost")
		late := connect(t, s, "3")
		late.read(t)
		late.read(t)
		late.wantCode(t, -1, 2104, "")
		late.wantCode(t, -1, 1100, "lost")
		late.wantCode(t, -1, 2158, "")
		time.Sleep(time.Second)
		c.ask(t, 1, "AAPL", "", "5 D")
		synctest.Wait()
		wantViolations(t, s, "AAPL: asked while the link to IB is lost")
		go s.Notify(1102)
		var both sync.WaitGroup
		for _, one := range []*client{c, late} {
			both.Go(func() { one.wantCode(t, -1, 1102, "restored") })
		}
		both.Wait()
	})
}

func TestFaultIsKnown(t *testing.T) {
	t.Parallel()
	s := gateway.New(gateway.Config{})
	defer s.Close()
	if err := s.Fault("", "no_such", 1); err == nil || !strings.Contains(err.Error(), "no_such") {
		t.Errorf("error = %v, want one that names the fault", err)
	}
	if err := s.Fault("", gateway.Drop, 0); err == nil {
		t.Error("a fault that never comes was taken")
	}
}

// TestServe: over TCP, until Close.
func TestServe(t *testing.T) {
	t.Parallel()
	s := gateway.New(gateway.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := &client{conn, bufio.NewReader(conn)}
	c.raw(t, "API\x00\x00\x00\x00\x09v100..176")
	c.read(t)
	s.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	c.wantEnd(t)
	if err := s.Serve(l); err != nil {
		t.Errorf("Serve after Close: %v", err)
	}
}
