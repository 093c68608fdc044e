package postgres

// PoolStats says how the connection pool is used; claims of runs have
// connections of their own.
type PoolStats struct {
	// InUse, Idle and Max count connections.
	InUse, Idle, Max int
	// Waits counts those who found no idle connection, since the start.
	Waits int64
}

// PoolStats asks no server.
func (db *DB) PoolStats() PoolStats {
	s := db.pool.Stat()
	return PoolStats{
		InUse: int(s.AcquiredConns()), Idle: int(s.IdleConns()), Max: int(s.MaxConns()), Waits: s.EmptyAcquireCount(),
	}
}
