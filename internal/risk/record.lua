-- Records a day trade once and takes out what is too old.
--
-- KEYS[1]  the sorted set
-- ARGV[1]  the member
-- ARGV[2]  its score
-- ARGV[3]  the id of its order, '' if it has none
-- ARGV[4]  the first ordinal that is kept
-- ARGV[5]  the same as a date, 2026-03-12
-- Returns the member that the order already has, or false, and how many were
-- taken out.
local function fields(member)
  local ok, document = pcall(cjson.decode, member)
  if ok and type(document) == 'table' then return document end
  return {}
end

-- A number is compared as it is written: Lua has only those of a double, which
-- are the same for many orders.
local function is(member, id)
  local own = fields(member).order_id
  if type(own) ~= 'number' then return own == id end
  for text in string.gmatch(member, '"order_id"%s*:%s*([-+.%deE]+)') do
    if tonumber(text) == own and (text == id or string.gsub(text, '%.0+$', '') == id) then return true end
  end
  return false
end

local found = false
if ARGV[3] ~= '' then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if is(member, ARGV[3]) then found = member end
  end
end
if not found then redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1]) end

-- A member whose own date is newer than its score says is kept.
local removed = 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[4])) do
  local date = fields(member).date
  if type(date) ~= 'string' or date < ARGV[5] then removed = removed + redis.call('ZREM', KEYS[1], member) end
end
return {found, removed}
