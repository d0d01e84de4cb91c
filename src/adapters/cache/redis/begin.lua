-- KEYS: the entry, the list of claims, the list of answers.
-- ARGV: a claim, its life in milliseconds, how many claims there may be.
-- Returns the entry's content, 'full', or nil if the claim was made.
local found = redis.call('GET', KEYS[1])
if found then
    return found
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
    return 'full'
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], KEYS[1])
redis.call('ZREM', KEYS[3], KEYS[1])
return false
