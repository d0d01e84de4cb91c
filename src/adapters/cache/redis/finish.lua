-- KEYS: the entry, the list of claims, the list of answers.
-- ARGV: an answer, its life in milliseconds, how many answers there may be.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREM', KEYS[2], KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZADD', KEYS[3], now + ARGV[2], KEYS[1])
local over = redis.call('ZCARD', KEYS[3]) - ARGV[3]
if over > 0 then
    -- Those that end first are the oldest.
    for _, entry in ipairs(redis.call('ZRANGE', KEYS[3], 0, over - 1)) do
        redis.call('DEL', entry)
    end
    redis.call('ZREMRANGEBYRANK', KEYS[3], 0, over - 1)
end
