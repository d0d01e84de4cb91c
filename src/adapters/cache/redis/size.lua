-- KEYS: the list of claims, the list of answers.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size = 0
for _, list in ipairs(KEYS) do
    redis.call('ZREMRANGEBYSCORE', list, '-inf', now)
    size = size + redis.call('ZCARD', list)
end
return size
