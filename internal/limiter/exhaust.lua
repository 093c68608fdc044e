{{/* Closes the days given until their next reset. So far below zero, a slot that
comes back does not open them. */ -}}
{{template "state.lua" .}}{{template "store.lua" .}}
{{range .Windows}}t{{.I}}, l{{.I}} = -{{.Limit}}, now
{{end}}store()
return 0
