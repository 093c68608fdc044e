{{/*
Returns, for each window, {tokens as text, next reset in Unix seconds} and then
the share of the rates that is used, as text. The tokens are empty when
unknown, the reset is 0 for a sliding window. Writes nothing.
*/ -}}
{{template "state.lua" .}}
local levels = {}
local function text(tokens, i)
  local last = number(held[i + 1])
  if tokens and number(held[i]) and last and last > 1e9 and last < 1e11 then return string.format('%.17g', tokens) end
  return ''
end
{{range .Windows}}{{if .Bucket}}levels[{{.I}}] = {text(t{{.I}}, {{.Tokens}}), 0}
{{else if .Day}}levels[{{.I}}] = {text(t{{.I}}, {{.Tokens}}), closes{{.I}}}
{{else}}do
  local free = 0
  for _, at in ipairs(call('LRANGE', '{{.ListKey}}', 0, -1)) do
    if at + w{{.I}} <= now then free = free + 1 end
  end
  levels[{{.I}}] = {text(not known{{.I}} and free, {{.Tokens}}), 0}
end
{{end}}{{end -}}
levels[#levels + 1] = string.format('%.17g', share(now))
return levels
