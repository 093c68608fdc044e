{{/*
Takes up to n grants, each of cost tokens from every window, or none.

ARGV[1..6]: n; cost; the longest delay in seconds of a slot that may be taken;
whether the reserve of a window is closed to the caller (1 or 0); the line of
those who wait; the tokens that were used while Redis was away. Without any:
1, 1, the horizon, 0, 0, 0.

Returns
  n                        all grants, for now, and the next is near
  {0, ask, lost, delay...} a grant for each delay, in microseconds after this
                           script ran; there is no use in asking for more
                           before ask (0: at any time)
  {1, window, reset}       the window is spent until reset, in Unix seconds
  {2, window, since}       nobody knows how many calls it has had since then
  {3, ask, lost, next}     none is near: ask in ask microseconds; nothing can
                           be granted for the first next microseconds
lost is the number of windows whose level was not to be read.

A caller that has to ask again is given its turn: a time of its own behind all
that wait in its line, so that processes that share a slow limit do not all
ask for each token. A turn is advice and no promise: what is granted depends on
the levels alone.
*/ -}}
{{if .Fast}}{{template "fast.lua" .}}{{end}}{{template "state.lua" .}}{{template "store.lua" .}}
local n, cost, horizon = tonumber(ARGV[1] or 1), tonumber(ARGV[2] or 1), tonumber(ARGV[3] or {{.HorizonSeconds}})
local reserved, line, owed = ARGV[4] == '1', ARGV[5] or '0', tonumber(ARGV[6] or 0)
local function micros(seconds) return math.ceil(seconds * 1000000) end
if owed > 0 then
  changed = true
{{range .Windows}}{{if .Bucket}}  t{{.I}} = t{{.I}} - owed
{{end}}{{end}}end

{{range .Windows}}{{if .Exact}}
local reserve{{.I}} = reserved and {{.Reserve}} or 0
local calls{{.I}} = call('LRANGE', '{{.ListKey}}', 0, (n + 1) * cost + reserve{{.I}} - 1)
local p{{.I}} = 0
{{end}}{{end}}
-- One round for each grant, and one more for what comes after the last.
local replies, granted, delay, refused = {0, 0, unread}, 0, 0, nil
while true do
  delay = 0
{{range .Windows}}{{if .Bucket}}  delay = math.max(delay, (cost - t{{.I}}) / rate{{.I}})
{{else if .Exact}}  if known{{.I}} and known{{.I}} < 0 then
    refused = {2, {{.I}}, math.floor(now - w{{.I}})}
  else
    local free = calls{{.I}}[p{{.I}} + cost + reserve{{.I}}] + w{{.I}} - now
    {{if .Long}}if free > 0 and not refused then refused = {1, {{.I}}, math.ceil(now + free)} end
    {{end}}delay = math.max(delay, free)
  end
{{else}}  if not t{{.I}} then
    refused = {2, {{.I}}, reset{{.I}}}
  elseif not refused and t{{.I}} - (reserved and {{.Reserve}} or 0) < cost then
    refused = {1, {{.I}}, closes{{.I}}}
  end
{{end}}{{end -}}
{{range .Windows}}{{if .Day}}  if not refused and now + delay >= closes{{.I}} - {{$.Guard}} then
    local opens = micros(closes{{.I}} + {{$.Guard}} - now)
    refused = {3, opens, unread, opens}
  end
{{end}}{{end}}  if granted == n or refused or delay > horizon then break end
  -- Debited as of the start, which the slowest window decides. What a faster
  -- one would refill past its capacity until then is not there afterwards.
{{range .Windows}}{{if .Bucket}}  t{{.I}} = math.min(t{{.I}}, {{.Capacity}} - rate{{.I}} * delay) - cost
{{else if .Day}}  t{{.I}} = t{{.I}} - cost
{{else}}  for _ = 1, cost do
    calls{{.I}}[#calls{{.I}} + 1] = now + delay
    call('RPUSH', '{{.ListKey}}', now + delay)
  end
  p{{.I}} = p{{.I}} + cost
{{end}}{{end}}  {{.Trace}}
  granted = granted + 1
  replies[granted + 3] = micros(delay)
end

if refused and refused[1] == 2 then return refused end
if granted > 0 or changed then
{{range .Windows}}{{if .Exact}}  if p{{.I}} > 0 then call('LTRIM', '{{.ListKey}}', p{{.I}}, -1) end
  mirror{{.I}} = math.min({{.Limit}}, 1 - {{.Rate}} * (call('LINDEX', '{{.ListKey}}', -1) + w{{.I}} - now))
{{end}}{{end}}  store()
end
if granted == n then
  if not refused and delay > horizon then replies[2] = micros(delay - horizon / 2) end
  return replies
end
if refused then return granted > 0 and replies or refused end

local gap = cost / math.min({{range .Windows}}{{if .Bucket}}rate{{.I}}, {{end}}{{end}}math.huge)
local most = math.max(1, math.min(n - granted, math.floor(horizon / 2 / gap)))
local turn = now + delay
local last = number(call('GET', '{{.LineKey}}' .. line))
if last and last > turn and last < turn + {{.LongestLine}} then turn = last end
call('SET', '{{.LineKey}}' .. line, turn + most * gap, 'PX', math.ceil((turn + most * gap - now) * 1000))
replies[2] = micros(turn - horizon / 2 - now)
if granted > 0 then return replies end
return {3, replies[2], unread, micros(delay)}
