package finra

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/providers"
	"github.com/alpha-oracle/worker/providers/wire"
)

// maxPartitions bounds the settlement dates of the list: 24 a year.
const maxPartitions = 10_000

// Published returns the settlement dates whose short interest FINRA has, in
// ascending order; none is no error. It is one small call, and the way to learn
// whether a date is out before its rows are asked for. They go back to
// 2017-12-29.
//
// The error is a *[providers.Error], or wraps that of ctx.
func (c *Client) Published(ctx context.Context) ([]market.Date, error) {
	dates, err := c.published(ctx)
	if err != nil {
		return nil, providers.Wrap(Name, "published short interest", err)
	}
	return dates, nil
}

func (c *Client) published(ctx context.Context) ([]market.Date, error) {
	resp, err := c.ask(ctx, http.MethodGet, partitionPath, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // all of it that counts is read by then
	if err := checkJSON(resp); err != nil {
		return nil, err
	}
	body := wire.NewBody(resp.Body, 0) // the transport bounds all of it
	dates, err := readPartitions(newReader(body))
	if err != nil {
		return nil, body.Fault(Name, err)
	}
	slices.Sort(dates)
	return dates, nil
}

// readPartitions reads {"availablePartitions":[{"partitions":["2026-02-27"]}]}.
// Instead of the list there is a message if it would be empty.
func readPartitions(r reader) ([]market.Date, error) {
	var dates []market.Date
	var hasList, hasMessage bool
	err := r.object(func(name string) error {
		switch name {
		case "availablePartitions":
			hasList = true
			return r.array(func() error {
				d, err := readPartition(r)
				if err == nil && (slices.Contains(dates, d) || len(dates) == maxPartitions) {
					err = fmt.Errorf("%v twice, or more than %d dates", d, maxPartitions)
				}
				dates = append(dates, d)
				return err
			})
		case "message":
			hasMessage = true
		}
		_, err := r.value()
		return err
	})
	if err == nil {
		err = wire.End(r.Decoder)
	}
	if err == nil && !hasList && !hasMessage {
		err = errors.New("no list of partitions")
	}
	return dates, err
}

func readPartition(r reader) (d market.Date, err error) {
	var values []jsontext.Value
	err = r.object(func(name string) error {
		if name != "partitions" {
			_, err := r.value()
			return err
		}
		return r.array(func() error {
			v, err := r.value()
			values = append(values, v.Clone())
			return err
		})
	})
	if err == nil && len(values) != 1 {
		err = errors.New("a partition that is not one date")
	}
	if err == nil {
		d, err = parseDate(values[0])
	}
	return d, err
}
