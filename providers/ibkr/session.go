package ibkr

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alpha-oracle/worker/providers"
)

const (
	// The server versions that the client speaks with. 176 is the last that
	// its text fields are certain for; below 124 requests have other fields.
	minVersion, maxVersion = 124, 176
	// offer names the oldest version that a handshake can name, as IB's own
	// clients do.
	offer = "v100..176"

	// messageGap keeps a connection below the 50 messages a second that IB
	// allows, however fast the budget is.
	messageGap = 25 * time.Millisecond
	// queued is room for a request and a cancellation of each open request.
	queued = 4 * maxOpen
)

// session is one connection to the gateway. It ends once, and for good.
type session struct {
	conn   net.Conn
	in     *bufio.Reader
	notice func(code int, text string)

	out  chan []byte
	done chan struct{} // closed at the end
	// told is closed when the gateway has told of its link to the history.
	told     chan struct{}
	tellOnce sync.Once

	mu      sync.Mutex
	err     error // why it has ended
	pending map[int]chan<- answer
	// held says why no request may go out; lifted is closed when it is empty
	// again.
	held   map[int]error
	lifted chan struct{}
	until  *time.Timer
	// slow asks for a pause of all replicas.
	slow time.Duration
	// heard counts the messages that came.
	heard int
	// proven says that a request has had an answer.
	proven bool
}

// answer is what a request gets: bars to be decoded, or a code.
type answer struct {
	bars fields
	code int
	text string
	// lost says that the gateway has forgotten the request.
	lost bool
}

// open shakes hands over a new connection, which ctx bounds, and starts to read
// and write. wait is for the goroutines.
func open(ctx context.Context, conn net.Conn, clientID int, notice func(int, string), wait *sync.WaitGroup) (*session, error) {
	s := &session{
		conn: conn, in: bufio.NewReader(conn), notice: notice,
		out: make(chan []byte, queued), done: make(chan struct{}), told: make(chan struct{}),
		pending: map[int]chan<- answer{}, held: map[int]error{},
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err := s.shake(clientID)
	if !stop() && ctx.Err() != nil {
		err = fmt.Errorf("no handshake with the gateway: %w", ctx.Err())
	}
	if err != nil {
		_ = conn.Close()
		return nil, explain(err)
	}
	wait.Go(s.read)
	wait.Go(s.write)
	return s, nil
}

// explain says in an error of a connection what happened.
func explain(err error) error {
	if bad, ok := errors.AsType[*protocolError](err); ok {
		return &providers.Error{Provider: Name, Kind: providers.BadPayload, Err: fmt.Errorf("not the protocol of a TWS or IB Gateway: %w", bad)}
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the gateway closed the connection in the middle of a message")
	case errors.Is(err, io.EOF):
		return errors.New("the gateway closed the connection")
	}
	return err
}

// shake offers the versions, reads the server's, starts the API and waits for
// the first id: requests before that may never be answered.
func (s *session) shake(clientID int) error {
	hello := binary.BigEndian.AppendUint32([]byte("API\x00"), uint32(len(offer)))
	if _, err := s.conn.Write(append(hello, offer...)); err != nil {
		return err
	}
	if err := s.agree(); err != nil {
		return err
	}
	const startVersion = "2"
	if _, err := s.conn.Write(encode(outStart, startVersion, strconv.Itoa(clientID), "")); err != nil {
		return err
	}
	for {
		in, err := readFrame(s.in)
		if err != nil {
			return err
		}
		message, err := in.number("message id")
		if err != nil || message == inNextID {
			return err
		}
		if message == inError {
			if err := s.onError(in); err != nil {
				return err
			}
		}
	}
}

// agree reads the server's version.
func (s *session) agree() error {
	in, err := readFrame(s.in)
	if err != nil {
		return err
	}
	version, err := in.number("server version")
	if err != nil {
		return err
	}
	if version < minVersion || version > maxVersion {
		return &providers.Error{Provider: Name, Kind: providers.Rejected, Err: fmt.Errorf(
			"the gateway wants version %d of the protocol, the worker speaks %d to %d: update the older of the two", version, minVersion, maxVersion)}
	}
	return nil
}

// settle waits a moment for the state of the gateway's links: what is asked
// before may never be answered.
func (s *session) settle(ctx context.Context) {
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-s.told:
	case <-timer.C:
	case <-s.done:
	case <-ctx.Done():
		s.end(fmt.Errorf("no handshake with the gateway: %w", ctx.Err()))
	}
}

// end closes the connection; err says why.
func (s *session) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	if s.until != nil {
		s.until.Stop()
	}
	close(s.done)
	_ = s.conn.Close()
}

// cause returns why the session has ended, nil if it has not.
func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *session) read() {
	for {
		in, err := readFrame(s.in)
		if err == nil {
			err = s.dispatch(in)
		}
		if err != nil {
			s.end(explain(err))
			return
		}
	}
}

func (s *session) write() {
	for {
		select {
		case message := <-s.out:
			if _, err := s.conn.Write(message); err != nil {
				s.end(fmt.Errorf("write to the gateway: %w", err))
				return
			}
		case <-s.done:
			return
		}
		if !pass(messageGap, s.done) {
			return
		}
	}
}

// pass waits for d and reports whether done did not come first.
func pass(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// send queues a message. A queue that is full belongs to a connection that has
// not taken anything for long.
func (s *session) send(message []byte) {
	select {
	case s.out <- message:
	default:
		s.end(errors.New("the gateway does not read"))
	}
}

// request sends a message and returns where its answer will come, and how many
// messages came before.
func (s *session) request(id int, message []byte) (answers <-chan answer, heard int) {
	to := make(chan answer, 1)
	s.mu.Lock()
	s.pending[id] = to
	heard = s.heard
	s.mu.Unlock()
	s.send(message)
	return to, heard
}

// cancel takes a request back, whose answer will not be heard.
func (s *session) cancel(id int) {
	s.mu.Lock()
	delete(s.pending, id)
	s.mu.Unlock()
	const cancelVersion = "1"
	s.send(encode(outCancelHistory, cancelVersion, strconv.Itoa(id)))
}

// timedOut ends a connection from which nothing at all has come since a request
// without an answer, unless the gateway has said that it is cut off itself: the
// request then goes out anew over another one.
func (s *session) timedOut(heard int) {
	s.mu.Lock()
	dead := s.heard == heard && len(s.held) == 0
	s.mu.Unlock()
	if dead {
		s.end(errors.New("nothing comes from the gateway any more"))
	}
}

// dispatch handles one message. Those of no interest are skipped.
func (s *session) dispatch(in fields) error {
	s.mu.Lock()
	s.heard++
	s.mu.Unlock()
	message, err := in.number("message id")
	if err != nil {
		return err
	}
	switch message {
	case inError:
		return s.onError(in)
	case inHistory:
		id, err := in.number("request id")
		if err == nil {
			s.deliver(id, answer{bars: in})
		}
		return err
	}
	return nil
}

// deliver hands an answer to its request, and reports whether there is one: a
// request that was cancelled is gone.
func (s *session) deliver(id int, a answer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	to, ok := s.pending[id]
	if ok {
		s.proven = true
		delete(s.pending, id)
		to <- a
	}
	return ok
}

// onError handles a message with a code: about the connection, about a request,
// or a mere notice. The error ends the session.
func (s *session) onError(in fields) error {
	if _, err := in.number("version"); err != nil {
		return err
	}
	id, err := in.number("request id")
	if err != nil {
		return err
	}
	code, err := in.number("code")
	if err != nil {
		return err
	}
	raw, err := in.next("text")
	if err != nil {
		return err
	}
	text := readText(raw)
	if ends(code) {
		return &providers.Error{Provider: Name, Kind: kindOfEnd(code), Err: say(code, text, remedyOfEnd(code))}
	}
	s.onState(code, text)
	if isNote(code) || !s.deliver(id, answer{code: code, text: text}) {
		s.notice(code, text)
	}
	return nil
}

func kindOfEnd(code int) providers.Kind {
	if code == codeClientID || code == codeOutdated {
		return providers.Rejected
	}
	return providers.Transient
}

func remedyOfEnd(code int) string {
	switch code {
	case codeClientID:
		return "another program, or a run that has not ended, uses the client id: set SA_BROKER__IBKR__CLIENT_ID to another one (the data connection uses it + 1)"
	case codePortReset:
		return "set SA_BROKER__IBKR__PORT to the gateway's new port"
	}
	return ""
}

// onState follows the codes about the link between the gateway and IB.
func (s *session) onState(code int, text string) {
	switch code {
	case codeLinkLost, codeServerLost, codeFarmLost, codeFarmBack, codeFarmIdle:
		defer s.tellOnce.Do(func() { close(s.told) })
	}
	switch code {
	case codeLinkLost, codeServerLost, codeFarmLost:
		s.hold(code, say(code, text, ""), 0)
	case codeRivalSession:
		s.hold(code, say(code, text, rivalRemedy), rivalHold)
	case codeLinkBackLost:
		s.lift(codeLinkLost, codeServerLost, codeFarmLost)
		s.forget(answer{code: code, text: text, lost: true})
	case codeLinkBack:
		s.lift(codeLinkLost, codeServerLost, codeFarmLost)
	case codeFarmBack, codeFarmIdle:
		s.lift(codeServerLost, codeFarmLost)
	case codeTooFast:
		s.mu.Lock()
		s.slow = ratePause
		s.mu.Unlock()
	}
}

// forget ends all requests with one answer.
func (s *session) forget(a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, to := range s.pending {
		delete(s.pending, id)
		to <- a
	}
}

// hold keeps requests from going out until lift is called with code, or for d if
// that is not 0: then the code is codeRivalSession, whatever the gateway's was.
func (s *session) hold(code int, why error, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		s.lifted = make(chan struct{})
	}
	s.held[code] = why
	if d > 0 && s.err == nil {
		if s.until != nil {
			s.until.Stop()
		}
		s.until = time.AfterFunc(d, func() { s.lift(code) })
	}
}

func (s *session) lift(codes ...int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return
	}
	for _, code := range codes {
		delete(s.held, code)
	}
	if len(s.held) == 0 {
		close(s.lifted)
	}
}

// usable returns nil if requests may go out now, and else why they may not.
func (s *session) usable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return lost(s.err)
	case len(s.held) > 0:
		why := slices.MinFunc(slices.Collect(maps.Values(s.held)), func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
		return &fault{err: &providers.Error{Provider: Name, Kind: providers.Transient, Err: why}, again: true}
	}
	return nil
}

// resumed returns what is closed when nothing holds requests back any more, to
// be waited for after usable has returned an error.
func (s *session) resumed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lifted
}

func (s *session) wasProven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proven
}

func (s *session) isSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow > 0
}

// takeSlow returns the pause that the gateway has asked for, once.
func (s *session) takeSlow() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.slow
	s.slow = 0
	return d
}
