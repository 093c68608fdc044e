{{/*
Gives ARGV[1] tokens, whose slots nobody used, back to the days given, unless
the day of the last slot, at ARGV[2] in Unix seconds, is over. Sliding windows
get nothing back: another slot may have been promised next to the unused one.
*/ -}}
{{template "state.lua" .}}
{{range .Windows}}if t{{.I}} and tonumber(ARGV[2]) >= reset{{.I}} then
  call('MSET', KEYS[{{.Tokens}}], math.min({{.Limit}}, t{{.I}} + tonumber(ARGV[1])), KEYS[{{.Last}}], l{{.I}})
end
{{end}}return 0
