-- Replaces system:status, and tells of it, if it is still what was read.
-- KEYS[1] the key; ARGV[1] "1" if it was there, ARGV[2] as it was, ARGV[3] as
-- it is to be, ARGV[4] a channel or "", ARGV[5] the message for it.
local now = redis.call('GET', KEYS[1])
local there = now and '1' or '0'
if there ~= ARGV[1] or (now and now ~= ARGV[2]) then
	return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
if ARGV[4] ~= '' then
	redis.call('PUBLISH', ARGV[4], ARGV[5])
end
return 1
