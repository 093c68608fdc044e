{{/*
What almost every call finds: one bucket, tokens in it, rates as they are. The
rest of the script says the same for all other cases.
*/ -}}
if not ARGV[6] or ARGV[6] == '0' then
  local call = redis.call
  local time = {{.Clock}}
  local now = time[1] + time[2] / 1000000
  local held = call('MGET', KEYS[1], KEYS[2], '{{.ShareKey}}')
  local tokens, last = tonumber(held[1]), tonumber(held[2])
  if tokens and last and not held[3] and last <= now and last > 1e9 and tokens > {{.Deepest}} and tokens < 1e15 then
    local n, cost = tonumber(ARGV[1] or 1), tonumber(ARGV[2] or 1)
    if tokens < 0 then tokens = tokens / {{.Plain}} * {{.Rate}} end
    tokens = tokens + (now - last) * {{.Rate}}
    if tokens > {{.Capacity}} then tokens = {{.Capacity}} end
    if tokens >= (n + 1) * cost then
      call('MSET', KEYS[1], tokens - n * cost, KEYS[2], now)
{{if .TraceNow}}      for _ = 1, n do {{.TraceNow}} end
{{end}}      return n
    end
  end
end
