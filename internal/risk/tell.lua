-- Tells the listeners of a change if the key still is what the caller has seen:
-- what comes late must not be told after something newer.
--
-- KEYS[1]  the key
-- ARGV[1]  its value as seen
-- ARGV[2]  the channel
-- ARGV[3]  the message
-- Returns 1 if it was told.
if redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
