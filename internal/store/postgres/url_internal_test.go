package postgres

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	type view struct {
		Host, Database, User, Password string
		Port                           uint16
		TLS                            bool
		Conns                          int32
		Application, Statement, Path   string
	}
	for url, want := range map[string]view{
		"postgres://u:p@h/d?sslmode=disable":                                          {Host: "h", Port: 5432, Database: "d", User: "u", Password: "p", Conns: 8, Application: "worker", Statement: "60000"},
		"postgresql://u:p%40%2F@h:6000/d?sslmode=disable&application_name=x":          {Host: "h", Port: 6000, Database: "d", User: "u", Password: "p@/", Conns: 8, Application: "x", Statement: "60000"},
		"postgresql+asyncpg://u:p@h/d?ssl=require&prepared_statement_cache_size=0":    {Host: "h", Port: 5432, Database: "d", User: "u", Password: "p", TLS: true, Conns: 8, Application: "worker", Statement: "60000"},
		"postgresql+asyncpg://u:p@h/d?ssl=disable&search_path=alpha&pool_max_conns=3": {Host: "h", Port: 5432, Database: "d", User: "u", Password: "p", Conns: 3, Application: "worker", Statement: "60000", Path: "alpha"},
		"postgres://u:p@h/d?sslmode=disable&statement_timeout=5s":                     {Host: "h", Port: 5432, Database: "d", User: "u", Password: "p", Conns: 8, Application: "worker", Statement: "5s"},
	} {
		c, err := config(url, Options{}.withDefaults())
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		p := c.ConnConfig.RuntimeParams
		got := view{
			c.ConnConfig.Host, c.ConnConfig.Database, c.ConnConfig.User, c.ConnConfig.Password, c.ConnConfig.Port,
			c.ConnConfig.TLSConfig != nil, c.MaxConns, p["application_name"], p["statement_timeout"], p["search_path"],
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", url, diff)
		}
		if p["jit"] != "off" || p["lock_timeout"] != "5s" || c.ConnConfig.ConnectTimeout != connectTimeout {
			t.Errorf("%s: %v, connect timeout %s", url, p, c.ConnConfig.ConnectTimeout)
		}
	}
}
