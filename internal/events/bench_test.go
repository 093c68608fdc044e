//go:build bench

package events_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/bench"
	"github.com/alpha-oracle/worker/internal/events"
)

// shake connects as a client does that costs next to nothing, so that what is
// measured is the hub.
func shake(t testing.TB, url string) (net.Conn, *bufio.Reader) {
	t.Helper()
	host := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n", host)
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	for line := "."; strings.TrimSpace(line) != ""; {
		if line, err = in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return conn, in
}

// receive reads n messages and returns how old each was.
func receive(in *bufio.Reader, n int, epoch time.Time) (ages []time.Duration, err error) {
	body := make([]byte, 0, 1024)
	for len(ages) < n {
		var head [2]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return ages, err
		}
		size := int(head[1])
		if size == 126 {
			var long [2]byte
			if _, err := io.ReadFull(in, long[:]); err != nil {
				return ages, err
			}
			size = int(binary.BigEndian.Uint16(long[:]))
		}
		body = body[:size]
		if _, err := io.ReadFull(in, body); err != nil {
			return ages, err
		}
		if head[0] != 0x81 {
			continue
		}
		_, rest, _ := strings.Cut(string(body), `"at":`)
		sent, _, _ := strings.Cut(rest, ",")
		at, err := strconv.ParseInt(sent, 10, 64)
		if err != nil {
			return ages, err
		}
		ages = append(ages, time.Since(epoch)-time.Duration(at))
	}
	return ages, nil
}

// TestFigureRelay measures a thousand clients under two hundred messages a
// second: from before the message is sent to Redis to after a client has read it,
// all on this machine, the clients included.
//
//nolint:paralleltest // it measures the machine
func TestFigureRelay(t *testing.T) {
	clients, seconds := bench.Pick(1000, 20), bench.Pick(20, 1)
	const perSecond = 200
	r := newRelay(t, events.HubConfig{})
	rdb, n, epoch := client(t, r.redis), seconds*perSecond, time.Now()
	all := make([][]time.Duration, clients)
	var reading sync.WaitGroup
	for i := range clients {
		_, in := shake(t, r.url)
		reading.Go(func() {
			var err error
			if all[i], err = receive(in, n, epoch); err != nil {
				t.Error(err)
			}
		})
	}
	busy, began := cpu(t), time.Now()
	filler := strings.Repeat("x", 150)
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for range n {
		<-ticker.C
		if err := rdb.Publish(t.Context(), "order:status", fmt.Sprintf(`{"at":%d,"more":%q}`, time.Since(epoch), filler)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reading.Wait()
	cores := (cpu(t) - busy).Seconds() / time.Since(began).Seconds()
	ages := slices.Concat(all...)
	slices.Sort(ages)
	if len(ages) != n*clients {
		t.Fatalf("%d of %d came, %+v", len(ages), n*clients, r.hub.Stats())
	}
	name := fmt.Sprintf("delivery to %d clients at %d messages/s", clients, perSecond)
	bench.Note(t, name+", median", ages[len(ages)/2].Seconds()*1000, "ms")
	bench.AtMost(t, name+", p99", ages[len(ages)*99/100].Seconds()*1000, 50, "ms")
	bench.Note(t, name+", worst", ages[len(ages)-1].Seconds()*1000, "ms")
	bench.Note(t, name+", processors busy with hub and clients", cores, "")
}

// TestFigureIdleClients measures what a client takes that says nothing: heap and
// stacks of the process, with the client's own end in it.
//
//nolint:paralleltest // it measures the machine
func TestFigureIdleClients(t *testing.T) {
	clients := bench.Pick(1000, 20)
	r := newRelay(t, events.HubConfig{})
	before, goroutines := inUse(), runtime.NumGoroutine()
	for range clients {
		shake(t, r.url)
	}
	r.until("clients", func(s events.Stats) bool { return s.Clients == clients })
	taken := float64(inUse()-before) / float64(clients) / 1024
	bench.AtMost(t, fmt.Sprintf("memory of each of %d idle clients", clients), taken, 64, "KiB")
	bench.Note(t, "goroutines for each", float64(runtime.NumGoroutine()-goroutines)/float64(clients), "")
}

// cpu is the time that processors have spent on this process.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
