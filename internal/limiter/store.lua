{{range .Windows}}{{if .Exact}}local mirror{{.I}}
{{end}}{{end}}-- Numbers go to Redis as they are: it writes them with 17 digits, while Lua's
-- own tostring keeps 14, a fraction of a millisecond, which adds up.
local function store()
  call('MSET'{{range .Windows}},
    KEYS[{{.Tokens}}], {{if .Exact}}mirror{{.I}}, KEYS[{{.Last}}], now, '{{.SeenKey}}', now{{else}}
    {{- if .Bucket}}math.max(0, t{{.I}}) + math.min(0, t{{.I}}) * {{.Plain}} / rate{{.I}}{{else}}t{{.I}}{{end}}, KEYS[{{.Last}}], l{{.I}}{{end}}{{end}})
end
