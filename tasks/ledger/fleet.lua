-- The fleet's side: who waits, who is in flight, and the feeder that admits. Choosing and admitting is one step.
--
--   KEYS  1 lanes      set: the lanes in which somebody waits
--         2 configured hash: model -> capacity as configured
--         3 scaled     hash: model -> capacity as an operator set it
--   ARGV  1 prefix of the fleet's other keys ("pm:{fleet}:"), 2 the step, then its arguments
--
--   <prefix>lane:<model>[,<model>…]  sorted set: calls that any of these models may take; score = priority, time
--   <prefix>single:<model>           sorted set: single calls queued or running there; score = lease's end (ms)
--   <prefix>part:<model>             the same for the parts of fan-outs
--   <prefix>delayed                  sorted set: "<lane>|<score>|<call>"; score = due (ms)
--
-- A call is "<job>.<index>". In-flight calls are leases: a dead worker's are gone once they lapse, no counter drifts.
-- All keys carry the tag {fleet}; nothing of a job is touched here. Time is the server's.

local LANES, CONFIGURED, SCALED, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
-- A model's queue holds this many times its capacity of single calls, so that no worker ever runs dry.
local AHEAD = 2

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local capacities = {}
local function capacity(model)
  local known = capacities[model]
  if not known then
    known = tonumber(redis.call('HGET', SCALED, model) or redis.call('HGET', CONFIGURED, model) or '0')
    capacities[model] = known
  end
  return known
end
local function singles(model) return redis.call('ZCARD', prefix .. 'single:' .. model) end
local function load(model)
  local room = capacity(model)
  if room == 0 then return math.huge end
  return (singles(model) + redis.call('ZCARD', prefix .. 'part:' .. model)) / room
end
local function has_room(model) return singles(model) < AHEAD * capacity(model) end

local function models_of(lane)
  local models = {}
  for model in string.gmatch(lane, '[^,]+') do models[#models + 1] = model end
  return models
end

-- The model with room that the call prefers: the least of base + slope * load. Without preference, the least loaded.
local function choose(lane, preference)
  local best, least
  for _, model in ipairs(models_of(lane)) do
    if has_room(model) then
      local p = preference and preference[model]
      local score = p and (p[1] + p[2] * load(model)) or load(model)
      if not best or score < least then best, least = model, score end
    end
  end
  return best
end

-- Admit in order of priority and time, over all lanes, until nobody who waits finds room.
-- Returns call, model, call, model, …
local function feed(most, lease_ms, mine, preference)
  local admitted = {}
  while #admitted < 2 * most do
    local first, first_score, first_lane, first_model
    for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
      local head = redis.call('ZRANGE', prefix .. 'lane:' .. lane, 0, 0, 'WITHSCORES')
      if not head[1] then
        redis.call('SREM', LANES, lane)
      elseif not first or tonumber(head[2]) < first_score then
        local model = choose(lane, head[1] == mine and preference or nil)
        if model then first, first_score, first_lane, first_model = head[1], tonumber(head[2]), lane, model end
      end
    end
    if not first then break end
    redis.call('ZREM', prefix .. 'lane:' .. first_lane, first)
    redis.call('ZADD', prefix .. 'single:' .. first_model, now + lease_ms, first)
    admitted[#admitted + 1] = first
    admitted[#admitted + 1] = first_model
  end
  return admitted
end

local function wait(lane, score, call)
  redis.call('ZADD', prefix .. 'lane:' .. lane, 'NX', score, call)
  redis.call('SADD', LANES, lane)
end

local step = {}

-- Put a call in its lane and admit whom there is room for, perhaps itself.
-- call, lane, priority, lease_ms, most, number of models, all models, then per candidate: model, base, slope.
-- A call that is in flight or waits already stays where it is; of one in flight the model is told again.
function step.admit(call, lane, priority, lease_ms, most, models, ...)
  local rest, preference = { ... }, {}
  models = tonumber(models)
  for k = 1, models do
    if redis.call('ZSCORE', prefix .. 'single:' .. rest[k], call) then return { call, rest[k] } end
  end
  for _, other in ipairs(redis.call('SMEMBERS', LANES)) do
    if redis.call('ZSCORE', prefix .. 'lane:' .. other, call) then return {} end
  end
  for k = models + 1, #rest, 3 do preference[rest[k]] = { tonumber(rest[k + 1]), tonumber(rest[k + 2]) } end
  wait(lane, tonumber(priority) * 1e13 + now, call)
  return feed(tonumber(most), tonumber(lease_ms), call, preference)
end

-- lease_ms, most
function step.feed(lease_ms, most) return feed(tonumber(most), tonumber(lease_ms)) end

-- A call has ended: forget it, admit the next. call, model, lease_ms, most
function step.release(call, model, lease_ms, most)
  redis.call('ZREM', prefix .. 'single:' .. model, call)
  redis.call('ZREM', prefix .. 'part:' .. model, call)
  return feed(tonumber(most), tonumber(lease_ms))
end

-- A call starts to run, or runs on: its lease lasts until now + lease_ms. "single" or "part", model, lease_ms, calls…
function step.hold(kind, model, lease_ms, ...)
  local key, till, held = prefix .. kind .. ':' .. model, now + tonumber(lease_ms), 0
  for _, call in ipairs({ ... }) do
    held = held + redis.call('ZADD', key, till, call)
    -- A part that was tried again came through the backlog, as single calls do: it has one lease, not two.
    if kind == 'part' then redis.call('ZREM', prefix .. 'single:' .. model, call) end
  end
  return held
end

-- How long the lease of a call still lasts, in ms; below zero: nobody holds it. call, model
function step.lease(call, model)
  local till = redis.call('ZSCORE', prefix .. 'single:' .. model, call)
    or redis.call('ZSCORE', prefix .. 'part:' .. model, call)
  return till and tonumber(till) - now or -1
end

-- Leave everything: a job was cancelled. call, then all models
function step.withdraw(call, ...)
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do redis.call('ZREM', prefix .. 'lane:' .. lane, call) end
  for _, model in ipairs({ ... }) do
    redis.call('ZREM', prefix .. 'single:' .. model, call)
    redis.call('ZREM', prefix .. 'part:' .. model, call)
  end
  return {}
end

-- A failed attempt leaves its slot and comes back when it is due: call, model, lane, priority, delay_ms, lease_ms, most
function step.delay(call, model, lane, priority, delay_ms, lease_ms, most)
  redis.call('ZADD', prefix .. 'delayed', now + tonumber(delay_ms), lane .. '|' .. priority .. '|' .. call)
  return step.release(call, model, lease_ms, most)
end

-- Bring back what is due, then admit. lease_ms, most
function step.tick(lease_ms, most)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
  for _, entry in ipairs(due) do
    local lane, priority, call = string.match(entry, '^(.-)|(.-)|(.*)$')
    wait(lane, tonumber(priority) * 1e13 + now, call)
    redis.call('ZREM', prefix .. 'delayed', entry)
  end
  return feed(tonumber(most), tonumber(lease_ms))
end

-- Calls whose lease has lapsed: kind, model, call, … At most `most` a model. most, then models
function step.lapsed(most, ...)
  local found = {}
  for _, model in ipairs({ ... }) do
    for _, kind in ipairs({ 'single', 'part' }) do
      for _, call in ipairs(redis.call('ZRANGEBYSCORE', prefix .. kind .. ':' .. model, '-inf', now, 'LIMIT', 0, most)) do
        found[#found + 1] = kind
        found[#found + 1] = model
        found[#found + 1] = call
      end
    end
  end
  return found
end

-- Where a call stands: "single", "part", "lane", "delayed" or "nowhere". call, then models
function step.find(call, ...)
  for _, model in ipairs({ ... }) do
    for _, kind in ipairs({ 'single', 'part' }) do
      if redis.call('ZSCORE', prefix .. kind .. ':' .. model, call) then return kind end
    end
  end
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    if redis.call('ZSCORE', prefix .. 'lane:' .. lane, call) then return 'lane' end
  end
  for _, entry in ipairs(redis.call('ZRANGE', prefix .. 'delayed', 0, -1)) do
    if string.sub(entry, -#call - 1) == '|' .. call then return 'delayed' end
  end
  return 'nowhere'
end

-- The state that a decision needs, in one read: turn key ("" = none), then models.
-- Returns turn, then per model: capacity, singles, parts, waiting for it (alone or shared).
function step.snapshot(turn, ...)
  local seen = { turn ~= '' and redis.call('INCR', prefix .. 'turn:' .. turn) or 0 }
  local lanes = {}
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    lanes[#lanes + 1] = { ',' .. lane .. ',', redis.call('ZCARD', prefix .. 'lane:' .. lane) }
  end
  for _, model in ipairs({ ... }) do
    local waiting = 0
    for _, lane in ipairs(lanes) do
      if string.find(lane[1], ',' .. model .. ',', 1, true) then waiting = waiting + lane[2] end
    end
    seen[#seen + 1] = capacity(model)
    seen[#seen + 1] = singles(model)
    seen[#seen + 1] = redis.call('ZCARD', prefix .. 'part:' .. model)
    seen[#seen + 1] = waiting
  end
  return seen
end

return step[ARGV[2]](unpack(ARGV, 3))
