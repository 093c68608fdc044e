{{/*
Holds every caller back for ARGV[1] seconds: the one window given owes what is
refilled in that time. Of two pauses the later end counts. The rates go down, once for all pauses that
overlap, from the end of the pause.
*/ -}}
{{template "state.lua" .}}{{template "store.lua" .}}
local seconds = tonumber(ARGV[1])
t1 = math.min(t1, -rate1 * seconds)
store()
if seconds > 0 then
  local ends = now + math.min({{.LongestPause}}, seconds)
  local f = down
  if now >= from then f = math.max({{.LowestShare}}, share(now) * {{.Slower}}) end
  call('SET', '{{.ShareKey}}', string.format('%.6f %.6f', f, math.max(from, ends)), 'EX',
    math.ceil(math.max(from, ends) - now + (1 - f) / {{.Recovery}}))
end
return unread
