{{/*
The level of each window now, on Redis' own clock: every script begins with
these lines. The scripts are generated for the windows of one limiter. What is
known beforehand stands in them as a number, and each window has variables of
its own instead of a table: a script that runs for every call can feel both.

KEYS: for each window its tokens key and its last_refill key.
ARGV: what the script itself takes, then for each exact window one value and
for each day as many as day() reads.

Afterwards bucket i has t<i>, its tokens as of the time l<i>, and rate<i>. What
it owes is kept as the tokens that the plain limit refills until then: who knows
the limit alone refills them faster than rate<i> does, and must not find the
debt paid before its last slot has passed. An
exact window has the length w<i>, and known<i> is below zero while nobody knows
its calls. The tokens of a day are nil while nobody knows them; it also has
reset<i>, the newest that has passed, and closes<i>, the next one. unread is the
number of windows that held no level. changed says that what was read must be
written even if nothing is granted, because the time from which it refills has
to start somewhere.
*/ -}}
local call = redis.call
local time = {{.Clock}}
local now = time[1] + time[2] / 1000000
local held = call('MGET', {{range .Windows}}KEYS[{{.Tokens}}], KEYS[{{.Last}}], {{end}}{{range .Windows}}{{if .Exact}}'{{.SeenKey}}', {{end}}{{end}}'{{.ShareKey}}')
local changed, unread = false, 0

local function number(text)
  local n = text and tonumber(text)
  -- The embedded Redis' tonumber knows only some exponents.
  if text and not n then
    local m, e = string.match(text, '^([%d.+-]+)[eE]([%d+-]+)$')
    m, e = m and tonumber(m), e and tonumber(e)
    n = m and e and m * 10 ^ e
  end
  -- What is not in this range is also nan, with which every comparison is
  -- false and so every call would pass.
  if n and n > -1e15 and n < 1e15 then return n end
  return nil
end

-- A last_refill before 2001 is a default or another clock, not Unix time.
local function level(i)
  local tokens, last = number(held[i]), number(held[i + 1])
  if tokens and last and last > 1e9 and last < 1e11 then return tokens, last end
  unread, changed = unread + 1, true
  return nil, now
end

-- By how much the rates are turned down, from the time that the key names. The
-- share goes up again with time, so that of the last refill is the lowest since
-- then: nothing is refilled too fast.
local down, from = 1, 0
do
  local f, at = string.match(held[{{.ShareIndex}}] or '', '^(%S+) (%S+)$')
  f, at = number(f), number(at)
  if f and at and at <= now + {{.LongestPause}} then down, from = math.min(1, math.max({{.LowestShare}}, f)), at end
end
local function share(at)
  if at < from then return 1 end
  return math.min(1, math.max({{.LowestShare}}, down + {{.Recovery}} * (at - from)))
end
{{if .Arguments}}
local position = {{.Own}}
local function argument()
  position = position + 1
  return tonumber(ARGV[position])
end
{{end}}{{if .Days}}
local function resets()
  local passed, coming
  for _ = 1, argument() do
    local reset = argument()
    if reset + {{.Guard}} <= now then
      passed = reset
    elseif not coming then
      coming = reset
    end
  end
  if not passed or not coming then
    error('the clocks of Redis and of the caller are days apart')
  end
  return passed, coming
end

local function day(i, limit)
  local left, since = argument(), argument()
  local reset, closes = resets()
  local tokens, last = number(held[i]), number(held[i + 1])
  if not (tokens and last and last > 1e9 and last < 1e11) then
    if left < 0 or since ~= reset then return nil, now, reset, closes end
    tokens, last, changed, unread = left, now, true, unread + 1
  end
  if last < reset + {{.Guard}} then return limit, now, reset, closes end
  if last > now + 1 then last, changed = now, true end
  return math.min(limit, tokens), math.max(now, last), reset, closes
end
{{end}}
{{range .Windows}}{{if .Bucket}}
local t{{.I}}, l{{.I}} = level({{.Tokens}})
-- Only the first window is held back by a pause, so the others keep the share
-- that they had.
local rate{{.I}} = {{.Rate}} * share({{if gt .I 1}}math.max(from, l{{.I}}){{else}}l{{.I}}{{end}})
-- Unknown is empty with all slots out that there can be: full would give the
-- burst twice.
t{{.I}} = t{{.I}} or {{.Cold}}
if t{{.I}} < {{.Deepest}} then t{{.I}}, changed = {{.Deepest}}, true end
do
  -- The seconds since nothing has been owed.
  local idle = math.min(0, t{{.I}}) / {{.Plain}}
  -- A clock that stepped back gives no credit.
  if l{{.I}} <= now then
    idle = idle + (now - l{{.I}})
    t{{.I}}, l{{.I}} = math.max(0, t{{.I}}) + math.max(0, idle) * rate{{.I}}, now
  elseif l{{.I}} > now + 1 then
    l{{.I}}, changed = now, true
  end
  if t{{.I}} > {{.Capacity}} then t{{.I}} = {{.Capacity}} end
  -- Slots ahead are as far apart as their tokens will come.
  rate{{.I}} = {{.Rate}} * share({{if gt .I 1}}math.max(from, l{{.I}}){{else}}l{{.I}}{{end}})
  if idle < 0 then t{{.I}} = idle * rate{{.I}} end
end
{{else if .Exact}}
local w{{.I}} = {{.Span}} / share(now)
-- known{{.I}} is the number of calls to put on a new list; nil: the list is as
-- it was left. Somebody else's call says that there may have been more.
local known{{.I}} = argument()
if call('LLEN', '{{.ListKey}}') == {{.Limit}} and held[{{.Last}}] and held[{{.Seen}}] then
  if held[{{.Last}}] == held[{{.Seen}}] then known{{.I}} = nil else known{{.I}} = {{.Limit}} end
else
  unread = unread + 1
end
if {{if $.ReadOnly}}false{{else}}known{{.I}} and known{{.I}} >= 0{{end}} then
  call('DEL', '{{.ListKey}}')
  -- Slots may be out up to the horizon.
  for i = 1, {{.Limit}} do call('RPUSH', '{{.ListKey}}', i <= {{.Limit}} - known{{.I}} and 0 or now + {{$.HorizonSeconds}}) end
  changed = true
end
{{else}}
local t{{.I}}, l{{.I}}, reset{{.I}}, closes{{.I}} = day({{.Tokens}}, {{.Limit}})
{{end}}{{end -}}
