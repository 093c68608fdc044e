//go:build bench

package bench_test

import (
	"testing"

	"github.com/alpha-oracle/worker/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
