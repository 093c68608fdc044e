package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/alpha-oracle/worker/internal/market"
)

// Fault is a way to misbehave at one request.
type Fault string

// The faults. Those with a code answer with it; {symbol} and {id} in their texts
// are the request's.
const (
	// NoAnswer: silence, until the request is cancelled.
	NoAnswer Fault = "no_answer"
	// Code 162, in English, in Spanish, and in a language that nobody knows.
	NoData              Fault = "no_data"
	NoDataSpanish       Fault = "no_data_es"
	NoDataStrange       Fault = "no_data_strange"
	NoChart             Fault = "no_chart"
	Pacing              Fault = "pacing"
	PacingSpanish       Fault = "pacing_es"
	TooManyOpen         Fault = "too_many_open"
	NoPermission        Fault = "no_permission"
	NoPermissionSpanish Fault = "no_permission_es"
	OtherAddress        Fault = "other_address"
	OtherAddressSpanish Fault = "other_address_es"
	InvalidStep         Fault = "invalid_step"
	Cancelled           Fault = "cancelled"
	Strange             Fault = "strange"
	// Other codes.
	TooFast          Fault = "too_fast"
	Expired          Fault = "expired"
	UnknownSymbol    Fault = "unknown_symbol"
	Ambiguous        Fault = "ambiguous"
	NotAllowed       Fault = "not_allowed"
	Unreadable       Fault = "unreadable"
	Invalid          Fault = "invalid"
	ServerError      Fault = "server_error"
	NotSubscribed    Fault = "not_subscribed"
	NoQuery          Fault = "no_query"
	RealTime         Fault = "real_time"
	PartlySubscribed Fault = "partly_subscribed"
	PartPermission   Fault = "part_permission"
	DelayedOff       Fault = "delayed_off"
	NoTicks          Fault = "no_ticks"
	Rival            Fault = "rival"
	BadEnd           Fault = "bad_end"
	NobodyKnows      Fault = "nobody_knows"
	// Note: code 165 and then bars.
	Note Fault = "note"
	// What breaks the connection.
	Drop          Fault = "drop"
	CutFrame      Fault = "cut_frame"
	Garbage       Fault = "garbage"
	HugeFrame     Fault = "huge_frame"
	EmptyFrame    Fault = "empty_frame"
	Unterminated  Fault = "unterminated"
	NotConnected  Fault = "not_connected"
	PortReset     Fault = "port_reset"
	ClientIDTaken Fault = "client_id_taken"
	// Bars that are wrong.
	Empty          Fault = "empty"
	TooFewBars     Fault = "too_few_bars"
	TooManyBars    Fault = "too_many_bars"
	NegativeCount  Fault = "negative_count"
	NoCount        Fault = "no_count"
	BadDate        Fault = "bad_date"
	BadPrice       Fault = "bad_price"
	Exponent       Fault = "exponent"
	LongPrice      Fault = "long_price"
	BadVolume      Fault = "bad_volume"
	FractionVolume Fault = "fraction_volume"
	NegativeVolume Fault = "negative_volume"
	// Bars that are right all the same.
	Unfinished    Fault = "unfinished"
	LongDates     Fault = "long_dates"
	DecimalVolume Fault = "decimal_volume"
	MissingVolume Fault = "missing_volume"
	Unsorted      Fault = "unsorted"
)

// coded is a fault that is a code with a text.
type coded struct {
	fault Fault
	code  int
	text  string
}

func codes() []coded {
	const history = "Historical Market Data Service error message:"
	const historyES = "Mensaje de error del servicio de datos hist\u00f3ricos:"
	return []coded{
		{NoData, 162, history + "HMDS query returned no data: {symbol}@SMART Trades"},
		{NoDataSpanish, 162, latin1(historyES + "la consulta no devolvi\u00f3 datos: {symbol}")},
		{NoDataStrange, 162, "x\\u00e4y:HMDS zz: {symbol}@SMART Trades"},
		{NoChart, 162, history + "No data of type DayChart is available for the exchange 'SMART'"},
		{Pacing, 162, history + "Historical data request pacing violation"},
		{PacingSpanish, 162, `Mensaje de error:violaci\u00f3n del ritmo de solicitudes`},
		{TooManyOpen, 162, history + "Only 50 simultaneous API historical data requests allowed."},
		{NoPermission, 162, history + "No market data permissions for NYSE STK"},
		{NoPermissionSpanish, 162, historyES + "Sin permisos de datos de mercado para NYSE STK"},
		{OtherAddress, 162, history + "Trading TWS session is connected from a different IP address"},
		{OtherAddressSpanish, 162, latin1(historyES + "La sesi\u00f3n de TWS est\u00e1 conectada desde otra direcci\u00f3n IP")},
		{InvalidStep, 162, history + "invalid step: 1 day"},
		{Cancelled, 162, "API historical data query cancelled: {id}"},
		{Strange, 162, "\u8acb\u6c42\u5931\u6557"},
		{TooFast, 100, "Max rate of messages per second has been exceeded: max=50 rec=51"},
		{Expired, 166, "HMDS expired contract violation"},
		{UnknownSymbol, 200, "No security definition has been found for the request"},
		{Ambiguous, 200, "The contract description specified for {symbol} is ambiguous."},
		{NotAllowed, 203, "The security {symbol} is not available or allowed for this account."},
		{Unreadable, 320, "Error reading request."},
		{Invalid, 321, "Error validating request: end date not supported with adjusted last"},
		{ServerError, 322, "Error processing request."},
		{NotSubscribed, 354, "Requested market data is not subscribed."},
		{NoQuery, 366, "No historical data query found for ticker id:{id}"},
		{RealTime, 420, "Invalid real-time query."},
		{PartlySubscribed, 10089, "Requested market data requires additional subscription for API."},
		{PartPermission, 10090, "Part of requested market data is not subscribed."},
		{DelayedOff, 10168, "Requested market data is not subscribed. Delayed market data is not enabled."},
		{NoTicks, 10187, "Failed to request historical ticks"},
		{Rival, 10197, "No market data during competing live session"},
		{BadEnd, 10314, "End Date/Time: The date, time, or time-zone entered is invalid."},
		{NobodyKnows, 777, "A code from the future."},
		{NotConnected, 504, "Not connected"},
		{PortReset, 1300, "The socket port has been reset and this connection is being dropped. Reconnect on new port - 4010"},
		{ClientIDTaken, 326, "Unable to connect as the client id is already in use."},
	}
}

// latin1 spells a text as a gateway on Windows does.
func latin1(text string) string {
	var out strings.Builder
	for _, r := range text {
		out.WriteByte(byte(r))
	}
	return out.String()
}

func codeOf(f Fault) (coded, bool) {
	all := codes()
	i := slices.IndexFunc(all, func(c coded) bool { return c.fault == f })
	if i < 0 {
		return coded{}, false
	}
	return all[i], true
}

// Faults returns all faults.
func Faults() []Fault {
	all := []Fault{
		NoAnswer, Note, Drop, CutFrame, Garbage, HugeFrame, EmptyFrame, Unterminated,
		Empty, TooFewBars, TooManyBars, NegativeCount, NoCount, BadDate, BadPrice, Exponent, LongPrice,
		BadVolume, FractionVolume, NegativeVolume, Unfinished, LongDates, DecimalVolume, MissingVolume, Unsorted,
	}
	for _, c := range codes() {
		all = append(all, c.fault)
	}
	return all
}

type planned struct {
	fault Fault
	times int // below 0: for ever
}

// Fault plans f for the next requests for symbol, "" meaning any symbol, after
// what is planned already: times requests, or all if times is below 0. A symbol's
// own faults come first.
func (s *Server) Fault(symbol market.Symbol, f Fault, times int) error {
	if !slices.Contains(Faults(), f) || times == 0 {
		return fmt.Errorf("fault %q, %d times: want one of %v, and not 0 times", f, times, Faults())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[symbol] = append(s.faults[symbol], planned{f, times})
	return nil
}

// takeFault returns the fault for a symbol's request. The caller holds the lock.
func (s *Server) takeFault(symbol market.Symbol) Fault {
	for _, of := range [...]market.Symbol{symbol, ""} {
		plans := s.faults[of]
		if len(plans) == 0 {
			continue
		}
		f := plans[0].fault
		if plans[0].times--; plans[0].times == 0 {
			s.faults[of] = plans[1:]
		}
		return f
	}
	return ""
}

// breaks sends what ends a connection.
func (c *conn) breaks(f Fault, id int) {
	history := []byte(toHistory + "\x00" + strconv.Itoa(id) + "\x0020260301\x00")
	switch f {
	case Drop:
	case CutFrame:
		c.write(frame(history)[:len(history)/2])
	case Garbage:
		c.write(frame([]byte("HTTP/1.1 400 Bad Request\x00")))
	case HugeFrame:
		c.write([]byte{0xFF, 0xFF, 0xFF, 0xFF, '1', '7', 0})
	case EmptyFrame:
		c.write([]byte{0, 0, 0, 0})
	case Unterminated:
		c.write(frame([]byte("17\x001")))
	default:
		return
	}
	c.end()
}
