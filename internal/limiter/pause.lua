-- Holds every caller back: the level of the one window given falls to what
-- will be refilled in ARGV[1] seconds. Of two pauses the later end counts.
local w = windows[1]
w.tokens = math.min(w.tokens, -w.rate * tonumber(ARGV[1]))
store()
return 0
