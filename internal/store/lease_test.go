package store_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alpha-oracle/worker/internal/store"
)

func TestLeaseDefaults(t *testing.T) {
	t.Parallel()
	for lease, want := range map[store.Lease]store.Lease{
		{}:                         {Length: 15 * time.Second, Renew: 5 * time.Second},
		{Length: time.Minute}:      {Length: time.Minute, Renew: 20 * time.Second},
		{Renew: time.Second}:       {Length: 15 * time.Second, Renew: time.Second},
		{Length: 10, Renew: 5}:     {Length: 10, Renew: 5},
		{Length: -1}:               {},
		{Length: 2}:                {},
		{Length: 10, Renew: 6}:     {},
		{Renew: 8 * time.Second}:   {},
		{Renew: -1}:                {},
		{Length: -10, Renew: -100}: {},
	} {
		got, err := lease.WithDefaults()
		if (err != nil) != (want == store.Lease{}) || err == nil && got != want {
			t.Errorf("%+v became %+v, %v", lease, got, err)
		}
	}
}

// lost looks once all that is due has happened.
func lost(tenure *store.Tenure) bool {
	synctest.Wait()
	select {
	case <-tenure.Lost():
		return true
	default:
		return false
	}
}

func TestTenure(t *testing.T) {
	t.Parallel()
	const length = 15 * time.Second
	fine, bad := func() error { return nil }, errors.New("no connection")
	renew := func(t *testing.T, tenure *store.Tenure, renew func() error, want error) {
		t.Helper()
		if err := tenure.Renew(renew); !errors.Is(err, want) {
			t.Errorf("renewed: %v", err)
		}
	}
	for name, run := range map[string]func(t *testing.T, tenure *store.Tenure){
		"renewed in time": func(t *testing.T, tenure *store.Tenure) {
			for range 10 {
				renew(t, tenure, fine, nil)
				time.Sleep(length - 1)
			}
			if lost(tenure) {
				t.Error("lost")
			}
		},
		"never renewed": func(t *testing.T, tenure *store.Tenure) {
			time.Sleep(10 * length)
			if lost(tenure) {
				t.Error("lost before it began")
			}
		},
		"over": func(t *testing.T, tenure *store.Tenure) {
			renew(t, tenure, fine, nil)
			time.Sleep(length)
			if !lost(tenure) {
				t.Error("not lost")
			}
			renew(t, tenure, fine, nil)
			time.Sleep(10 * length)
			tenure.Lose()
		},
		"renewals that fail": func(t *testing.T, tenure *store.Tenure) {
			renew(t, tenure, fine, nil)
			time.Sleep(length - 1)
			renew(t, tenure, func() error { return bad }, bad)
			if lost(tenure) {
				t.Error("lost too early")
			}
			time.Sleep(time.Nanosecond)
			if !lost(tenure) {
				t.Error("not lost")
			}
		},
		"it counts from before the renewal": func(t *testing.T, tenure *store.Tenure) {
			renew(t, tenure, func() error { time.Sleep(length - 2); return nil }, nil)
			time.Sleep(time.Nanosecond)
			if lost(tenure) {
				t.Error("lost too early")
			}
			time.Sleep(time.Nanosecond)
			if !lost(tenure) {
				t.Error("not lost")
			}
		},
		"lost": func(t *testing.T, tenure *store.Tenure) {
			tenure.Lose()
			tenure.Lose()
			if !lost(tenure) {
				t.Error("not lost")
			}
		},
		"given back": func(t *testing.T, tenure *store.Tenure) {
			renew(t, tenure, func() error { tenure.Stop(); return nil }, nil)
			renew(t, tenure, fine, nil)
			time.Sleep(10 * length)
			tenure.Lose()
			if lost(tenure) {
				t.Error("lost")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { run(t, store.NewTenure(length)) })
		})
	}
}
