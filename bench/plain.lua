-- KEYS: one key for each write. ARGV: the TTL in seconds, and then the version and the value of each write.
local names = {}
for i = 1, #KEYS do names[i] = KEYS[i] .. '#timestamp' end
local stored = {}
for from = 1, #names, 500 do
  local to = math.min(from + 499, #names)
  local values = redis.call('MGET', unpack(names, from, to))
  for i = from, to do stored[names[i]] = values[i - from + 1] end
end
local ttl = ARGV[1]
for i = 1, #KEYS do
  local name, version = names[i], ARGV[2 * i]
  local current = stored[name]
  if not current or tonumber(version) >= tonumber(current) then
    redis.call('SET', KEYS[i], ARGV[2 * i + 1], 'EX', ttl)
    redis.call('SET', name, version, 'EX', ttl)
    stored[name] = version
  end
end
return #KEYS
