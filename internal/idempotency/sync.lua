-- Brings a done-set up to date.
--
-- KEYS[1]  the set
-- ARGV[1]  its lifetime in seconds; 0: it has none
-- ARGV[2]  1: it shall have no other members than those given
-- ARGV[3]  how many members to add
-- ARGV[4...] first the members to add, then those to remove
-- Returns how many members there are.
local key = KEYS[1]
if ARGV[2] == '1' or redis.call('TYPE', key).ok ~= 'set' then redis.call('DEL', key) end

-- By thousands, since a call cannot take arguments without end.
local function each(command, from, to)
  for i = from, to, 1000 do
    redis.call(command, key, unpack(ARGV, i, math.min(i + 999, to)))
  end
end

local added = tonumber(ARGV[3])
each('SADD', 4, 3 + added)
each('SREM', 4 + added, #ARGV)
if ARGV[1] == '0' then redis.call('PERSIST', key) else redis.call('EXPIRE', key, ARGV[1]) end
return redis.call('SCARD', key)
