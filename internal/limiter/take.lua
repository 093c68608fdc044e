-- Takes one call from every window, or nothing from any.
--
-- ARGV[1]: the longest delay that is of use to the caller in microseconds,
--          -1 for any
-- Returns
--   {0, delay}     taken. The call may start delay microseconds after this
--                  script ran; a negative delay is how long ago it might have
--   {1, i, reset}  window i is spent until reset, in Unix seconds
--   {2, i, reset}  nobody knows how many calls window i has had since reset
--   {3, delay}     the delay would be longer than is of use
--   {4, delay}     the call would start after a day's reset, and that day's
--                  tokens are not there yet: ask again in delay microseconds
local function micros(seconds) return math.ceil(seconds * 1000000) end

local delay, closes
for i, w in ipairs(windows) do
  if w.rate > 0 then
    delay = math.max(delay or -math.huge, (1 - w.tokens) / w.rate)
  elseif not w.tokens then
    return {2, i, w.reset}
  elseif w.tokens < 1 then
    return {1, i, w.closes}
  else
    closes = math.min(closes or w.closes, w.closes)
  end
end

local ahead = math.max(0, delay)
if closes and now + ahead >= closes then return {4, micros(closes - now)} end
local longest = tonumber(ARGV[1])
if longest >= 0 and micros(ahead) > longest then return {3, micros(ahead)} end
if ahead > tonumber(ARGV[2]) then error('too many callers wait for this limit') end

-- The call is debited as of its start, which the slowest window decides. What
-- a faster one would refill past its capacity until then is not there for
-- the calls after it.
for _, w in ipairs(windows) do
  if w.rate > 0 then w.tokens = math.min(w.tokens, w.capacity - w.rate * ahead) end
  w.tokens = w.tokens - 1
end
store()
return {0, micros(delay)}
