//go:build chaos

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers/simulator"
)

// TestChaosKillAltdata kills runs of alternative data at random moments and
// starts them again at once, while somebody looks every 10 ms whether last_run
// is ahead of what is stored. Afterwards every filing of the window is stored
// once.
//
//nolint:paralleltest // it takes the whole machine
func TestChaosKillAltdata(t *testing.T) {
	seed := numberFrom(t, "CHAOS_SEED", uint64(time.Now().UnixNano()))
	want := max(3, int(numberFrom(t, "CHAOS_KILLS", 100))/10)
	fmt.Printf("chaos: altdata: replay with CHAOS_SEED=%d\n", seed)
	random := rand.New(rand.NewPCG(seed, 2))

	w := newWorld(t).withServers()
	w.now = time.Now
	symbols := market.SP500()[:40]
	config := simulator.EDGARConfig{Symbols: symbols, Forms: 20, Foreign: 50}
	w.simulate(simulator.Config{Key: canary, EDGAR: config, Latency: 50 * time.Millisecond})
	w.env["SA_DATA__EDGAR__USER_AGENT"] = "Tests tests@example.com"
	w.env["SA_DATA__EDGAR__RATE_LIMIT_PER_SECOND"] = "100"
	w.env["SA_DATA__FINRA__RATE_LIMIT_PER_MINUTE"] = "600"
	w.env["SA_DATA__UNIVERSE__SYMBOLS"] = list(symbols)
	binary := buildWorker(t)
	if s := w.run("migrate"); s.code != exitOK {
		t.Fatal(s.err)
	}

	ctx, stop := context.WithCancel(t.Context())
	looks := make(chan int, 1)
	go func() { looks <- w.watchLastRun(ctx) }()
	kills, _ := w.killUntilDone(binary, random, want, time.Second, "run", "altdata", "--json")
	stop()
	fmt.Printf("chaos: altdata: %d kills, %d looks at last_run, %d calls to the SEC\n", kills, <-looks, len(w.sim.EDGARCalls()))

	if w.redis().Get(t.Context(), "jobs:altdata:last_run").Val() == "" {
		t.Error("there is no last_run")
	}
	listed := w.query("select count(*)::text from ingest_filings")
	if stored := w.query("select count(*)::text from insider_filings"); stored != listed || stored == "0" {
		t.Errorf("%s filings stored of %s", stored, listed)
	}
	// A row for each line that is a transaction, as the simulator has it.
	var wrong []string
	for _, symbol := range symbols {
		filings, err := w.open().db.InsiderFilings(t.Context(), symbol)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range filings {
			if form, ok := simulator.Form(config, f.Accession); !ok || len(form.Lines) != len(f.Lines) {
				wrong = append(wrong, f.Accession)
			}
		}
	}
	if len(wrong) > 0 {
		t.Errorf("stored otherwise than served: %v", wrong)
	}
}

// watchLastRun looks again and again, until ctx ends, whether a last_run is
// shown while something that was listed is not stored. It returns how often it
// looked.
func (w *world) watchLastRun(ctx context.Context) (looks int) {
	conn, err := pgx.Connect(ctx, w.env["SA_DATABASE__URL"])
	if err != nil {
		w.t.Error(err)
		return 0
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rdb := w.redis()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for ctx.Err() == nil {
		shown := rdb.Get(ctx, "jobs:altdata:last_run").Val() != ""
		var missing, settlements int
		err := conn.QueryRow(ctx, `
			select (select count(*) from ingest_filings f where not exists (
				select from ingest_items i where i.job = 'altdata' and i.period = 'edgar_filings' and i.unit = f.accession_number)),
			(select count(*) from ingest_items i where i.job = 'altdata' and i.period like 'finra:%')`).Scan(&missing, &settlements)
		if err == nil && shown && (missing > 0 || settlements == 0) {
			w.t.Errorf("last_run is shown while %d documents are missing and %d settlement dates are stored", missing, settlements)
			return looks
		}
		looks++
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return looks
}
