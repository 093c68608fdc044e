-- The level of each window now, on Redis' own clock. Every script of this
-- package begins with these lines.
--
-- KEYS: for each window its tokens key and its last_refill key
-- ARGV[1]: for the lines that follow
-- ARGV[2]: the longest promise in seconds; no debt is deeper
-- ARGV[3...]: for each window
--   sliding: capacity, rate per second (above 0)
--   day:     limit, 0, calls left by the ledger (-1: not asked), the reset
--            from which the ledger counted, n, and n resets in Unix seconds,
--            ascending
--
-- windows[i] gets capacity, rate, tokens and last; a day also reset, the
-- newest that has passed, and closes, the next one. The tokens of a day are
-- nil while nobody knows them.
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local held = redis.call('MGET', unpack(KEYS))

local position = 2
local function argument()
  position = position + 1
  return tonumber(ARGV[position])
end

-- A plain decimal number, or nil. Conversion alone also takes 0x10, inf, and
-- nan, with which every comparison is false and so every call would pass. (Not
-- tonumber: in the embedded Redis it does not know exponents.)
local function number(text)
  if not text or not string.find(text, '^[%d.eE+-]+$') then return nil end
  local plain, n = pcall(function() return text + 0 end)
  if not plain or n == math.huge or n == -math.huge then return nil end
  return n
end

-- A last_refill before 2001 is a default or another clock, not Unix time:
-- believed, it would fill the day up on every call.
local function stored(i)
  local tokens, last = number(held[2 * i - 1]), number(held[2 * i])
  if not tokens or not last or last < 1000000000 then return nil end
  return tokens, last
end

-- A level that cannot be read is empty: full would give the burst twice. A
-- clock that stepped back gives no credit.
local function sliding(i, w)
  local tokens, last = stored(i)
  if not tokens then return 0, now end
  tokens = math.max(-w.rate * tonumber(ARGV[2]), math.min(w.capacity, tokens))
  if last > now + 1 then return tokens, now end
  if last > now then return tokens, last end
  return math.min(w.capacity, tokens + (now - last) * w.rate), now
end

local function resets(w)
  for _ = 1, argument() do
    local reset = argument()
    if reset <= now then
      w.reset = reset
    elseif not w.closes then
      w.closes = reset
    end
  end
  if not w.reset or not w.closes then
    error('the clocks of Redis and of the caller are days apart')
  end
end

local function day(i, w)
  local left, since = argument(), argument()
  resets(w)
  local tokens, last = stored(i)
  if not tokens and left >= 0 and since == w.reset then
    tokens, last = left, now
    redis.call('MSET', KEYS[2 * i - 1], tokens, KEYS[2 * i], last)
  end
  if not tokens then return nil, now end
  if last < w.reset then return w.capacity, now end
  if last > now + 1 then last = now end
  return math.min(w.capacity, tokens), math.max(now, last)
end

local windows = {}
for i = 1, #KEYS / 2 do
  local w = {}
  w.capacity = argument()
  w.rate = argument()
  w.level = w.rate > 0 and sliding or day
  w.tokens, w.last = w.level(i, w)
  windows[i] = w
end

-- The numbers go to Redis as they are: it writes them with 17 digits, while
-- Lua's own tostring keeps 14, a fraction of a millisecond, which adds up.
local function store()
  local values = {}
  for i, w in ipairs(windows) do
    values[#values + 1], values[#values + 2] = KEYS[2 * i - 1], w.tokens
    values[#values + 1], values[#values + 2] = KEYS[2 * i], w.last
  end
  redis.call('MSET', unpack(values))
end

