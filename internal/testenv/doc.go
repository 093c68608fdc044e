// Package testenv gives tests a real Redis and a real Postgres.
//
// A test package that needs a server has one line in one of its files:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// After that, [Redis] and [Postgres] hand every test a database of its own on
// servers which the whole test binary shares. The servers start on first use,
// on free ports of 127.0.0.1, and end with the test binary, however it ends.
// They trade durability for speed. A test that wants to stop, freeze or crash
// a server asks [RedisServer] or [PostgresServer] for one of its own.
//
// What is shared by all tests of a package on these servers, since it belongs
// to a server and not to a database: Redis channels, scripts and
// configuration; Postgres roles and settings. FLUSHALL is switched off on the
// shared Redis, because it would empty the databases of other tests: use
// FLUSHDB, or a server of your own.
//
// The shared Postgres runs in the zone America/New_York, so that code which
// leans on the zone of its session fails here and not in the field.
//
// The programs redis-server and postgres must be installed (`make deps`). With
// TEST_REDIS_URL or TEST_DATABASE_URL set, [Redis] and [Postgres] use those
// servers instead. The Redis databases from number 1 up are EMPTIED then; the
// number 0 only holds the keys by which test binaries agree on who has which.
// On Postgres, each test creates a database and drops it. [RedisServer] and
// [PostgresServer] need the programs in any case.
//
// [Chromium] finds the browser for tests of pages.
//
// A missing server or browser fails the test. Nothing is ever skipped.
//
// The functions must not be called inside a testing/synctest bubble: take the
// URL first. They are safe for use by parallel tests.
package testenv
