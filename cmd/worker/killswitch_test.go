package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/alpha-oracle/worker/internal/rediskey"
	"github.com/alpha-oracle/worker/internal/risk"
	"github.com/alpha-oracle/worker/internal/store"
)

// switched runs kill-switch with --json.
func (w *world) switched(args ...string) (s killSwitchState, code int) {
	w.t.Helper()
	code = w.decode(&s, append([]string{"kill-switch"}, args...)...)
	return s, code
}

func TestKillSwitchCommands(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*world{"embedded": newWorld(t), "servers": newWorld(t).withServers()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.t = t
			w.run("migrate")
			if s, code := w.switched("status"); code != exitOK || s.Active || s.Table != risk.Inactive || s.Redis != risk.Missing || len(s.Notes) != 0 {
				t.Errorf("at first: exit %d, %+v", code, s)
			}
			s, code := w.switched("activate", "--reason", "feed is wrong")
			if code != exitOK || !s.Active || s.Changed == nil || !*s.Changed || s.Reason != "feed is wrong" || s.Activated == nil || s.Redis != risk.Active {
				t.Errorf("activate: exit %d, %+v", code, s)
			}
			again, code := w.switched("activate", "--reason", "me too")
			if code != exitOK || *again.Changed || again.Reason != "feed is wrong" || !again.Activated.Equal(*s.Activated) {
				t.Errorf("again: exit %d, %+v", code, again)
			}
			if words := w.run("kill-switch", "status"); words.code != exitOK || !strings.Contains(words.out, "ACTIVE") || !strings.Contains(words.out, "ingestion goes on") {
				t.Errorf("in words: exit %d: %s", words.code, words.out)
			}
			if early := w.run("kill-switch", "deactivate", "--reason", "off"); early.code != exitFailed || !strings.Contains(early.err, "--force") {
				t.Errorf("within the cooldown: exit %d: %s", early.code, early.err)
			}
			if s, code := w.switched("deactivate", "--reason", "false alarm", "--force"); code != exitOK || s.Active || !*s.Changed || s.Deactivated == nil {
				t.Errorf("deactivate: exit %d, %+v", code, s)
			}
			w.env["SA_RISK__KILL_SWITCH__COOLDOWN_MINUTES"] = "0"
			w.switched("activate", "--reason", "once more")
			if s, code := w.switched("deactivate", "--reason", "no cooldown"); code != exitOK || s.Active {
				t.Errorf("without a cooldown: exit %d, %+v", code, s)
			}
			entries, err := w.open().db.Audit(t.Context(), "", 10)
			if err != nil || len(entries) != 5 || entries[4].Detail != "feed is wrong" || entries[4].Actor == "" || !strings.Contains(entries[4].Origin, "command line") {
				t.Errorf("audit %+v, %v", entries, err)
			}
			for _, args := range [][]string{{"activate"}, {"deactivate", "--reason", " "}, {"activate", "--reason", "x", "--force"}, {"status", "x"}, {}} {
				if s := w.run(append([]string{"kill-switch"}, args...)...); s.code != exitUsage {
					t.Errorf("%v: exit %d: %s", args, s.code, s.err)
				}
			}
			if help := w.run("kill-switch", "activate", "--help"); !strings.Contains(help.out, "does not halt ingestion") {
				t.Errorf("help: %s", help.out)
			}
		})
	}
}

// Halting must be possible while one of the two is away.
func TestKillSwitchWithoutOneOfTheTwo(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	database, url := w.env["SA_DATABASE__URL"], w.env["SA_REDIS__URL"]
	w.run("migrate")
	rdb := w.redis()
	w.env["SA_DATABASE__URL"] = "postgres://nobody@127.0.0.1:1/none"
	if s := w.run("kill-switch", "activate", "--reason", "database is gone"); s.code != exitFailed || !strings.Contains(s.err, "trading is halted, by Redis alone") {
		t.Errorf("exit %d: %s", s.code, s.err)
	}
	if got := rdb.Get(t.Context(), rediskey.KillSwitch).Val(); got != "active" {
		t.Errorf("Redis says %q", got)
	}
	if s, code := w.switched("status"); code != exitOK || !s.Active || s.Table != risk.Unreadable || len(s.Notes) != 1 {
		t.Errorf("exit %d, %+v", code, s)
	}
	w.env["SA_REDIS__URL"] = "redis://127.0.0.1:1/0"
	if s, code := w.switched("status"); code != exitFailed || !s.Active || !strings.Contains(s.Reason, "127.0.0.1:1") {
		t.Errorf("neither: exit %d, %+v", code, s)
	}
	w.env["SA_DATABASE__URL"] = database
	if s := w.run("kill-switch", "activate", "--reason", "Redis is gone"); s.code != exitFailed || !strings.Contains(s.err, "puts it right") {
		t.Errorf("exit %d: %s", s.code, s.err)
	}
	if s, code := w.switched("status"); code != exitOK || !s.Active || s.Table != risk.Active || s.Redis != risk.Unreadable {
		t.Errorf("exit %d, %+v", code, s)
	}
	w.env["SA_REDIS__URL"] = url
	if s, code := w.switched("activate", "--reason", "all is back"); code != exitOK || !s.Active || len(s.Notes) != 0 || s.Reason != "Redis is gone" {
		t.Errorf("exit %d, %+v", code, s)
	}
}

func TestServeHealsTheKillSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t).withServers()
	w.run("migrate")
	s := w.open()
	change := store.KillSwitchChange{Active: true, Actor: "alice", Reason: t.Name(), Origin: "a test"}
	if _, _, err := s.db.ChangeKillSwitch(t.Context(), change); err != nil { // and no more than that
		t.Fatal(err)
	}
	told := w.redis().Subscribe(t.Context(), rediskey.KillSwitchChanged)
	if _, err := told.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan said)
	go func() { ended <- w.runContext(ctx, "serve") }()
	for {
		message, err := told.ReceiveMessage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]string
		if json.Unmarshal([]byte(message.Payload), &m) == nil && m["reason"] == t.Name() && m["action"] == "activate" {
			break
		}
	}
	if got := w.redis().Get(t.Context(), rediskey.KillSwitch).Val(); got != "active" {
		t.Errorf("Redis says %q", got)
	}
	cancel()
	<-ended
}
