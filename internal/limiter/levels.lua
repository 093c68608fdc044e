-- Returns, for each window, {tokens as text, next reset in Unix seconds}; the
-- text is empty when unknown, the reset 0 for a sliding window. Writes nothing.
local levels = {}
for i, w in ipairs(windows) do
  local known = w.tokens and (w.rate <= 0 or stored(i))
  levels[i] = {known and string.format('%.17g', w.tokens) or '', w.closes or 0}
end
return levels
