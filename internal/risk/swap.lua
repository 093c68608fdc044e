-- Writes a string if the key still is what the caller has seen, so that nobody
-- else's write is lost.
--
-- KEYS[1]  the key
-- ARGV[1]  its type as seen: string, none or other
-- ARGV[2]  its value as seen, of a string
-- ARGV[3]  the value to write
-- Returns 1 if it was written.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' and kind ~= 'none' then kind = 'other' end
if kind ~= ARGV[1] or kind == 'string' and redis.call('GET', KEYS[1]) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3])
return 1
