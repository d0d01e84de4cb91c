-- KEYS: the entry, the list of claims.
-- ARGV: what the claim begins with: its kind and its token.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], KEYS[1])
end
