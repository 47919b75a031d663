-- Views of the fleet: what routing decides by, and what people see.

-- Attempts and tokens of the last minute, from those of this minute and of the one before
local function lately(minute, current, before)
  local part, age = 1 - (now % MINUTE_MS) / MINUTE_MS, math.floor(now / MINUTE_MS) - (tonumber(minute) or 0)
  if age == 0 then return math.floor((tonumber(current) or 0) + (tonumber(before) or 0) * part + 0.5) end
  return age == 1 and math.floor((tonumber(current) or 0) * part + 0.5) or 0
end

local FIELDS = { 'lat', 'lat_at', 'faults', 'fault_at', 'err', 'qw', 'tok_ms', 'minute', 'requests', 'tokens',
  'requests_before', 'tokens_before', 'open_until', 'spent_day', 'paused_until' }

-- Calls that wait for a model, alone or among others, and of these the ones that wait for no other
local function count_waiting(lists, model)
  local waiting, bound = 0, 0
  for _, list in ipairs(lists) do
    if string.find(list.candidates, ',' .. model .. ',', 1, true) then
      waiting = waiting + list.count
      if list.is_bound then bound = bound + list.count end
    end
  end
  return waiting, bound
end

-- All that a decision needs, in one read. turn: the key of a counter ("" = none); rest: models.
-- Returns the counter, then a row for each model: see `_LoadRow` in fleet.py.
function step.snapshot(turn, rest)
  local seen = { turn ~= '' and redis.call('INCR', PREFIX .. 'turn:' .. turn) or 0 }
  local lists = {}
  for k, list in ipairs(redis.call('SMEMBERS', PREFIX .. 'waiting-lists')) do
    local candidates = string.gsub(list, '>.*$', '')
    lists[k] = { candidates = ',' .. candidates .. ',', count = redis.call('ZCARD', PREFIX .. 'waiting:' .. list),
      is_bound = not string.find(candidates, ',', 1, true) }
  end
  for k, model in ipairs(rest) do
    local values, did = redis.call('HMGET', limiter_key('model:' .. model), unpack(FIELDS)), {}
    for j = 1, #FIELDS do
      if values[j] then did[FIELDS[j]] = values[j] end
    end
    local waiting, bound = count_waiting(lists, model)
    seen[k + 1] = {
      capacity(model) or 0, in_flight('single', model), in_flight('part', model), waiting, bound,
      closed_reason(model, did) or '',
      did.lat or '', did.lat_at and now - did.lat_at or '', did.faults or 0, did.fault_at and now - did.fault_at or '',
      did.err or 0, did.qw or 0, did.tok_ms or '',
      lately(did.minute, did.requests, did.requests_before), lately(did.minute, did.tokens, did.tokens_before),
    }
  end
  return seen
end

-- The state of limiters. rest: their names. Returns a row for each: see `_StateRow` in limiter.py.
function step.limiters(rest)
  local seen = {}
  for k, name in ipairs(rest) do
    local flat, limiter = redis.call('HGETALL', limiter_key(name)), {}
    for j = 1, #flat, 2 do limiter[flat[j]] = flat[j + 1] end
    local model, open_until = string.match(name, '^model:(.*)$'), tonumber(limiter.open_until)
    local breaker = open_until and (now < open_until and 'open' or 'half-open') or 'closed'
    seen[k] = {
      redis.call('ZCOUNT', running_key(name), now, '+inf'),
      model and capacity(model) or not model and tonumber(limiter.concurrency) or '',
      model and breaker or '', math.max(0, (open_until or 0) - now), limiter.why or '',
      math.max(0, (tonumber(limiter.paused_until) or 0) - now),
      lately(limiter.minute, limiter.requests, limiter.requests_before),
      lately(limiter.minute, limiter.tokens, limiter.tokens_before),
      tonumber(limiter.day) == math.floor(now / DAY_MS) and limiter.usd or '0',
      limit_of(limiter, 'r') or '', limit_of(limiter, 't') or '',
    }
  end
  return seen
end

-- The mean tokens of an answer ("" = none was seen). rest: models
function step.means(rest)
  local means = {}
  for k, model in ipairs(rest) do means[k] = redis.call('HGET', limiter_key('model:' .. model), 'mean_out') or '' end
  return means
end
