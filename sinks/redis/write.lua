-- Carries out a batch of writes, each by the order of docs/cache-layout.md, and answers for each one.
--
-- KEYS: one key for each write. ARGV: the prefix, the entries' TTL and the TTL of clocks in ms ('' = none), and then for each
-- write its lock (l, name without prefix; or nothing), its condition (g, number of keys, keys without prefix; or nothing),
-- its own TTL (t, ms or ''; or nothing) and its operation with its operands:
--   v version value         one clock: the version
--   a version as_of value   two clocks
--   d version as_of         delete, two clocks
--   u value                 no version
--   x                       delete without a version
-- Numbers are decimals without leading zeros. Returns a string with one letter a write, and then, for each letter e in
-- turn, the text of the error:
--   s stored   t stored over a key of another type   r equal, TTL renewed   o older   g guarded   l locked   e error
--
-- A write of two clocks leaves both in a key of penstock's own, PREFIX:penstock:KEY = "AS_OF VERSION v|d". After a delete
-- that key is the tombstone: it keeps older values out.
--
-- Lines between "rule NAME {" and "} NAME" are one rule: the tests take each of them out and must notice.

local call, try = redis.call, redis.pcall
local find, match, sub, byte = string.find, string.match, string.sub, string.byte
local prefix, ttl, clocks_ttl = ARGV[1] .. ':', ARGV[2], ARGV[3]
local clocks_prefix, lock_prefix = prefix .. 'penstock:', ARGV[1] .. '-'

-- stored holds every version, pair of clocks and lock that this batch looks at, as it is in Redis now; false = absent.
local stored, wanted = {}, {}

local function want(key)
  if stored[key] == nil then
    stored[key] = false
    wanted[#wanted + 1] = key
  end
end

-- number returns what the readers' parseInt makes of a sibling, as a canonical decimal; nil when it is no number.
local function number(text)
  if not text or find(text, '^[1-9]%d*$') then return text or nil end
  -- rule parse_int {
  local sign, digits = match(text, '^%s*([+-]?)(%d+)')
  if digits then
    return sign == '-' and '0' or match(digits, '^0*(%d+)$')
  end
  -- } parse_int
  return nil
end

-- less compares canonical decimals. Lua's numbers merge neighbours above 2^53, and its string order follows the locale.
local function less(a, b)
  if #a <= 15 and #b <= 15 then return tonumber(a) < tonumber(b) end
  -- rule long_decimals {
  if #a ~= #b then return #a < #b end
  local high_a, high_b = tonumber(sub(a, 1, -16)), tonumber(sub(b, 1, -16))
  if high_a ~= high_b then return high_a < high_b end
  a, b = sub(a, -15), sub(b, -15)
  -- } long_decimals
  return tonumber(a) < tonumber(b)
end

-- bytes_less compares byte by byte, whatever the locale.
local function bytes_less(a, b)
  local from, shorter = 1, #a < #b and #a or #b
  while from <= shorter do
    local to = from + 63
    if sub(a, from, to) ~= sub(b, from, to) then
      for i = from, to < shorter and to or shorter do
        local x, y = byte(a, i), byte(b, i)
        if x ~= y then return x < y end
      end
    end
    from = to + 1
  end
  return #a < #b
end

local failure -- of the write at hand

local function set(key, value, expire)
  local answer
  if expire == '' then
    answer = try('SET', key, value)
  else
    answer = try('SET', key, value, 'PX', expire)
  end
  if answer.err then
    failure = answer.err
    return false
  end
  return true
end

local function expire(key, after)
  -- rule renewal {
  if after == '' then call('PERSIST', key) else call('PEXPIRE', key, after) end
  -- } renewal
end

-- value_of returns the entry; nil when it is absent, or no string: such a key is overwritten.
local function value_of(key)
  local value = try('GET', key)
  return type(value) == 'string' and value or nil
end

local function set_clocks(clocks, version, as_of, kind)
  local text = as_of .. ' ' .. version .. ' ' .. kind
  if not set(clocks, text, clocks_ttl) then return false end
  stored[clocks] = text
  return true
end

local function store(key, sibling, version, value)
  local kind = 'string'
  -- rule other_types_counted {
  if not stored[sibling] then kind = call('TYPE', key).ok end
  -- } other_types_counted
  if not (set(key, value, ttl) and set(sibling, version, ttl)) then return 'e' end
  stored[sibling] = version
  return (kind == 'string' or kind == 'none') and 's' or 't'
end

-- tie is for a value whose clocks are those of the entry: the greater bytes win. nil = it wins.
local function tie(key, sibling, value)
  local current = value_of(key)
  if not current then return nil end
  -- rule tie {
  if current ~= value and bytes_less(value, current) then return 'o' end
  -- } tie
  if current == value and stored[sibling] then
    expire(key, ttl)
    expire(sibling, ttl)
    return 'r'
  end
  return nil
end

local operations = {}

function operations.v(key, sibling, _, version, value)
  local current = number(stored[sibling])
  -- rule version {
  if current and less(version, current) then return 'o' end
  -- } version
  if current == version then
    local answer = tie(key, sibling, value)
    if answer then return answer end
  end
  return store(key, sibling, version, value)
end

-- against compares a write of two clocks with those stored and with the version sibling. nil = it wins.
local function against(key, sibling, clocks, version, as_of, kind, value)
  local current = number(stored[sibling])
  local seen_as_of, seen_version, seen_kind
  if stored[clocks] then
    seen_as_of, seen_version, seen_kind = match(stored[clocks], '^(%d+) (%d+) ([dv])$')
  end
  -- An SDK has written since when the sibling is not what we left.
  local foreign = current and not (seen_kind == 'v' and seen_version == current)
  if seen_as_of then
    if seen_as_of ~= as_of then
      -- rule as_of {
      if less(as_of, seen_as_of) then return 'o' end
      -- } as_of
    elseif seen_version ~= version then
      -- rule as_of_version {
      if less(version, seen_version) then return 'o' end
      -- } as_of_version
    elseif seen_kind ~= kind then
      -- rule delete_before_value {
      if kind == 'd' then return 'o' end
      -- } delete_before_value
    else
      -- rule foreign_equal {
      if foreign then return 'o' end
      -- } foreign_equal
      local answer
      if kind == 'd' then answer = 'r' else answer = tie(key, sibling, value) end
      if answer == 'r' then expire(clocks, clocks_ttl) end
      if answer then return answer end
    end
  end
  -- rule foreign {
  if foreign and less(version, current) then return 'o' end
  -- } foreign
  return nil
end

function operations.a(key, sibling, clocks, version, as_of, value)
  local answer = against(key, sibling, clocks, version, as_of, 'v', value)
  if answer then return answer end
  -- rule clocks {
  if not set_clocks(clocks, version, as_of, 'v') then return 'e' end
  -- } clocks
  return store(key, sibling, version, value)
end

function operations.d(key, sibling, clocks, version, as_of)
  local answer = against(key, sibling, clocks, version, as_of, 'd')
  if answer then return answer end
  -- rule tombstone {
  if not set_clocks(clocks, version, as_of, 'd') then return 'e' end
  -- } tombstone
  -- rule clean_miss {
  call('DEL', sibling)
  stored[sibling] = false
  -- } clean_miss
  call('DEL', key)
  return 's'
end

function operations.u(key, sibling, _, value)
  if not set(key, value, ttl) then return 'e' end
  -- rule no_version {
  if stored[sibling] then
    call('DEL', sibling)
    stored[sibling] = false
  end
  -- } no_version
  return 's'
end

function operations.x(key, sibling)
  call('DEL', key, sibling)
  stored[sibling] = false
  return 's'
end

local operands = {v = 2, a = 3, d = 2, u = 1, x = 0}
local two_clocks = {a = true, d = true}

-- First pass: what must be known, in as few reads as possible.
local at = 4
for i = 1, #KEYS do
  if ARGV[at] == 'l' then
    want(lock_prefix .. ARGV[at + 1])
    at = at + 2
  end
  if ARGV[at] == 'g' then
    local n = tonumber(ARGV[at + 1])
    for j = at + 2, at + 1 + n do want(prefix .. ARGV[j] .. '#timestamp') end
    at = at + 2 + n
  end
  if ARGV[at] == 't' then at = at + 2 end
  local operation = ARGV[at]
  want(KEYS[i] .. '#timestamp')
  if two_clocks[operation] then want(clocks_prefix .. sub(KEYS[i], #prefix + 1)) end
  at = at + 1 + operands[operation]
end
for from = 1, #wanted, 500 do
  local to = from + 499 < #wanted and from + 499 or #wanted
  local values = call('MGET', unpack(wanted, from, to))
  for i = from, to do stored[wanted[i]] = values[i - from + 1] end
end

local answers, errors = {}, {}
at = 4
for i = 1, #KEYS do
  local answer
  local locked = false
  if ARGV[at] == 'l' then
    locked = stored[lock_prefix .. ARGV[at + 1]]
    at = at + 2
  end
  if ARGV[at] == 'g' then
    local n = tonumber(ARGV[at + 1])
    -- rule guard {
    answer = 'g'
    for j = at + 2, at + 1 + n do
      if number(stored[prefix .. ARGV[j] .. '#timestamp']) then answer = nil end
    end
    -- } guard
    at = at + 2 + n
  end
  ttl, clocks_ttl = ARGV[2], ARGV[3]
  if ARGV[at] == 't' then
    ttl = ARGV[at + 1]
    -- The clocks live no shorter than the entry.
    if ttl == '' or clocks_ttl ~= '' and tonumber(clocks_ttl) < tonumber(ttl) then clocks_ttl = ttl end
    at = at + 2
  end
  -- rule lock {
  if locked and not answer then answer = 'l' end
  -- } lock
  local operation = ARGV[at]
  if not answer then
    local key = KEYS[i]
    local clocks = two_clocks[operation] and clocks_prefix .. sub(key, #prefix + 1)
    answer = operations[operation](key, key .. '#timestamp', clocks, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3])
    if answer == 'e' then errors[#errors + 1] = failure end
  end
  answers[i] = answer
  at = at + 1 + operands[operation]
end
return {table.concat(answers), unpack(errors)}
