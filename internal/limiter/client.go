package limiter

import (
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The timeouts of the limiter's own connections. A reply takes well under a
// millisecond; one that does not come in a quarter of a second is better taken
// as lost, since the slot that it carries ages meanwhile.
const (
	dialTimeout = 200 * time.Millisecond
	ioTimeout   = 250 * time.Millisecond
)

// lateReply is how long a reply may take for its slots to be used: those of
// other processes stand by Redis' clock. A client of [ClientOptions] gives up
// earlier, but one that was frozen meanwhile finds the reply when it wakes up.
// The script may have to be sent a second time, with its text.
const lateReply = 2 * ioTimeout

// poolSize is enough for one Wait in flight and a Pause or a status beside it.
const poolSize = 4

// ClientOptions returns the options of a client for the limiter alone, for the
// Redis at url: redis://, rediss:// or unix://. They never send a command
// twice (each copy of a lost "take a token" would take one more) and give up
// quickly. The error does not repeat the url, which may hold a password.
func ClientOptions(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, errors.New("redis URL: want redis://[user:password@]host:port/db, or rediss:// for TLS")
	}
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout = dialTimeout
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = ioTimeout, ioTimeout, ioTimeout
	o.ContextTimeoutEnabled = true
	o.PoolSize = poolSize
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// check refuses clients whose promises the limiter cannot build on.
func check(rdb redis.UniversalClient) error {
	switch c := rdb.(type) {
	case nil:
		return errors.New("no Redis client")
	case *redis.ClusterClient, *redis.Ring:
		return ErrCluster
	case *redis.Client:
		if n := c.Options().MaxRetries; n > 0 {
			return fmt.Errorf("the Redis client sends a command up to %d times: make it from ClientOptions, which never resend", n+1)
		}
	}
	return nil
}

// ErrCluster is why a Redis in cluster mode is refused.
var ErrCluster = errors.New("redis in cluster mode cannot hold a rate limit, " +
	"because a window's two keys are in different slots: use a Redis without cluster mode")

// isCluster recognises what only a server in cluster mode says.
func isCluster(err error) bool {
	for _, prefix := range []string{"CROSSSLOT", "CLUSTERDOWN", "MOVED", "ASK"} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}
