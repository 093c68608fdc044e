package limiter_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/alpha-oracle/worker/internal/limiter"
)

// scripted is a Redis whose answers to the limiter's scripts the test decides.
type scripted struct {
	redis.UniversalClient

	mu     sync.Mutex
	calls  int
	answer func(call int) ([]any, error)
}

func (s *scripted) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	values, err := s.answer(s.calls)
	return redis.NewCmdResult(values, err)
}

func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// delay answers that the call may start after d.
func delay(d time.Duration) ([]any, error) { return []any{int64(limiter.Taken), d.Microseconds()}, nil }

func newScripted(t *testing.T, answer func(call int) ([]any, error)) (*limiter.Limiter, *scripted) {
	t.Helper()
	s := &scripted{answer: answer}
	return newLimiter(t, s, limiter.Options{}, perSecond(5)), s
}

func TestWaitAsksOnceAndSleepsUntilItsSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(int) ([]any, error) { return delay(7 * time.Second) })
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 7*time.Second || s.count() != 1 {
			t.Errorf("waited %s with %d requests, want 7 s with one", took, s.count())
		}
	})
}

func TestSlotCountsFromTheArrivalOfTheReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, func(int) ([]any, error) {
			time.Sleep(time.Second) // the network
			return delay(2 * time.Second)
		})
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s, want 3 s", err, time.Since(began))
		}
	})
}

func TestSlotInThePastMayGoAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, func(int) ([]any, error) { return delay(-7 * time.Second) })
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestCallersAreServedInTheirOrderAndHoldOneSlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(int) ([]any, error) { return delay(time.Second) })
		var wg sync.WaitGroup
		served := make(chan int, 20)
		for i := range 20 {
			wg.Go(func() {
				if err := l.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				served <- i
			})
			synctest.Wait()
		}
		for second := range 20 {
			if n := s.count(); n != second+1 {
				t.Fatalf("%d slots taken after %d s, want %d", n, second, second+1)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		wg.Wait()
		for i := range 20 {
			if got := <-served; got != i {
				t.Errorf("caller %d was served as number %d", got, i)
			}
		}
	})
}

func TestCancelledCallersTakeNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(int) ([]any, error) { return delay(time.Minute) })
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 10)
		for range 10 {
			go func() { errs <- l.Wait(ctx) }()
		}
		synctest.Wait()
		began := time.Now()
		cancel()
		for range 10 {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want context.Canceled", err)
			}
		}
		if s.count() != 1 || time.Since(began) != 0 {
			t.Errorf("%d slots taken, returned after %s; want one, at once", s.count(), time.Since(began))
		}
		if err := l.Wait(t.Context()); err != nil {
			t.Errorf("the next caller: %v", err)
		}
	})
}

func TestDeadlineBeforeTheSlotReturnsAtOnce(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(int) ([]any, error){
		"told by Redis":  func(int) ([]any, error) { return []any{int64(limiter.TooLate), int64(9e6)}, nil },
		"reply too late": func(int) ([]any, error) { return delay(9 * time.Second) },
		"day too late":   func(int) ([]any, error) { return []any{int64(limiter.NextDay), int64(9e6)}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, _ := newScripted(t, answer)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				began := time.Now()
				err := l.Wait(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 0 {
					t.Errorf("%v after %s, want DeadlineExceeded at once", err, time.Since(began))
				}
			})
		})
	}
}

func TestNextDayIsAskedForAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(call int) ([]any, error) {
			if call == 1 {
				return []any{int64(limiter.NextDay), int64(9e6)}, nil
			}
			return delay(time.Second)
		})
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 10*time.Second || s.count() != 2 {
			t.Errorf("waited %s with %d requests, want 10 s with two", took, s.count())
		}
	})
}

func TestPauseTakesTheSlotAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(int) ([]any, error) { return delay(2 * time.Second) })
		began := time.Now()
		done := make(chan time.Duration, 1)
		go func() {
			if err := l.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			done <- time.Since(began)
		}()
		time.Sleep(time.Second)
		if err := l.Pause(t.Context(), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		// The slot at 2 s is gone; the pause ends at 11 s, the new slot is at 13 s.
		if at := <-done; at != 13*time.Second || s.count() != 3 {
			t.Errorf("went at %s after %d requests, want 13 s after 3", at, s.count())
		}
	})
}

func TestPauseHoldsInThisProcessEvenWithoutRedis(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, func(call int) ([]any, error) {
			if call == 1 {
				return nil, errors.New("connection refused")
			}
			return delay(0)
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := l.Pause(ctx, 20*time.Second); err == nil {
			t.Fatal("no error though Redis was not told")
		}
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) < 20*time.Second {
			t.Errorf("%v after %s, want to wait 20 s", err, time.Since(began))
		}
	})
}

func TestWaitGivesUpWhenItsPatienceIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, s := newScripted(t, func(int) ([]any, error) { return nil, errors.New("READONLY You can't write") })
		began := time.Now()
		errs := make(chan error, 30)
		for range cap(errs) {
			go func() { errs <- l.Wait(t.Context()) }()
		}
		for range cap(errs) {
			err := <-errs
			if !errors.Is(err, limiter.ErrUnavailable) || !strings.Contains(err.Error(), "READONLY") || !strings.Contains(err.Error(), "provider") {
				t.Errorf("%v, want ErrUnavailable, the limit's name and what failed", err)
			}
		}
		// All that queued give up with the first: they waited as long as it.
		if took := time.Since(began); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("gave up after %s, want 30 s", took)
		}
		if s.count() < 30 || s.count() > 250 {
			t.Errorf("%d requests in 30 s", s.count())
		}
	})
}

func TestCallersThatQueuedBeforeAnOutageArePatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newScripted(t, func(call int) ([]any, error) {
			if call >= 2 && call <= 5 {
				return nil, errors.New("connection refused")
			}
			return delay(time.Minute)
		})
		errs := make(chan error, 2)
		for range cap(errs) {
			go func() { errs <- l.Wait(t.Context()) }()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Errorf("a short outage after a minute in the queue: %v", err)
			}
		}
	})
}

func TestAnswersThatAreNoneMeanNo(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]any{{}, {int64(0)}, {int64(7), int64(0)}, {int64(0), "x"}, {int64(1), int64(9), int64(5)}, {int64(0), int64(1), int64(2)}} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, _ := newScripted(t, func(int) ([]any, error) { return answer, nil })
				if err := l.Wait(t.Context()); !errors.Is(err, limiter.ErrUnavailable) {
					t.Errorf("%v: %v, want ErrUnavailable", answer, err)
				}
			})
		})
	}
}
