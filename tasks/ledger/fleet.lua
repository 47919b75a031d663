-- The fleet's side: who waits, who is in flight, and the feeder that admits. Choosing and admitting is one step.
--
--   KEYS  1 lanes      set: the lanes in which somebody waits
--         2 configured hash: model -> capacity as configured
--         3 scaled     hash: model -> capacity as an operator set it
--   ARGV  1 prefix of the fleet's other keys ("pm:{fleet}:"), 2 the step, then its arguments
--
--   <prefix>lane:<model>[,<model>…]  sorted set: calls that any of these models may take; score = priority, time
--   <prefix>lane:<model>><model>,…   the same for calls that wait for the first; the rest may, while it is closed
--   <prefix>single:<model>           sorted set: single calls queued or running there; score = lease's end (ms)
--   <prefix>part:<model>             the same for the parts of fan-outs
--   <prefix>delayed                  sorted set: calls that come back later; score = due (ms)
--   <prefix>delayed-to               hash: call -> "<lane>|<priority>", where it comes back to
--   <prefix>active                   sorted set: jobs that have not ended; score = next look of the sweeper (s)
--   <prefix>leader:<role>            string: who has the role, for as long as the key lives
--   <prefix>gate:<gate>              hash: limits and breaker of a model or a key, see limits.lua; read alone
--   <prefix>running:<gate>           sorted set: attempts in flight there; read alone
--
-- A call is "<job>.<index>". In-flight calls are leases: a dead worker's are gone once they lapse, no counter drifts.
-- All keys carry the tag {fleet}; nothing of a job is touched here. Time is the server's.
-- Lists of arguments are read from ARGV: Lua can't unpack the thousands that a busy worker holds.

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

-- Of a bucket as in limits.lua: how many calls of `size` may start within the horizon.
local HORIZON_US = 2000000
local BURST = { r = 0.04, t = 0.10 }
local function starts(kind, limit, arrival, window, size, said, said_until)
  said = said and now < tonumber(said_until) and tonumber(said)
  limit = said and math.min(said, limit or said) or limit
  if not limit then return math.huge end
  local burst = math.max(1, math.floor(limit * BURST[kind]))
  local pace = (window or 60000000) / (limit - burst + 1)
  local now_us = clock[1] * 1000000 + clock[2]
  local till, full = now_us + HORIZON_US, tonumber(arrival) or 0
  -- The first may overdraw a bucket that was full for long; those behind it find none that is fuller than full.
  local one = full + (math.min(size, limit) - burst) * pace <= till and 1 or 0
  return math.max(one, math.floor(((till - math.max(full, now_us)) / pace + burst) / size))
end

-- How many calls of `size` the provider has left, where it says so and has no more before the horizon.
local function spare(left, till, size)
  if not left or now + HORIZON_US / 1000 >= tonumber(till) then return math.huge end
  return math.max(0, math.floor(left / size))
end

-- A model's gate: `closed` (its breaker, its budget or its provider lets nobody through), and how many calls may stand
-- in its queue beside those that run. No more than its rate allows: who is refused at the door would come and go.
local gates = {}
local function gate(model)
  if gates[model] then return gates[model] end
  local name = prefix .. 'gate:model:' .. model
  local open_until, probe_until, held, rpm, tpm, window, r, t, size, day, key = unpack(redis.call('HMGET', name,
    'open_until', 'probe_until', 'held_until', 'rpm', 'tpm', 'window', 'r', 't', 'mean_tok', 'spent_day', 'key'))
  local found = { closed = false, ahead = math.huge }
  open_until, held, size = tonumber(open_until), (tonumber(held) or 0) - now, math.max(1, tonumber(size) or 1)
  if open_until and now < open_until or tonumber(day) == math.floor(now / 86400000) or held > 5000 then
    found.closed, found.ahead = true, 0
  elseif held > 500 then
    found.ahead = 0
  else
    local said = redis.call('HMGET', name, 'said_r', 'said_r_until', 'said_t', 'said_t_until',
      'left_r', 'left_r_until', 'left_t', 'left_t_until')
    found.ahead = math.min(starts('r', tonumber(rpm), r, window, 1, said[1], said[2]),
      starts('t', tonumber(tpm), t, window, size, said[3], said[4]),
      spare(said[5], said[6], 1), spare(said[7], said[8], size))
    if open_until then
      found.ahead = math.min(found.ahead, now < (tonumber(probe_until) or 0) and 0 or 1)
    end
    if key then
      local shared = redis.call('HMGET', prefix .. 'gate:key:' .. key, 'rpm', 'tpm', 'window', 'r', 't')
      found.ahead = math.min(found.ahead, starts('r', tonumber(shared[1]), shared[4], shared[3], 1),
        starts('t', tonumber(shared[2]), shared[5], shared[3], size))
    end
  end
  local running = prefix .. 'running:model:' .. model
  found.running = found.ahead < math.huge and redis.call('ZCOUNT', running, now, '+inf') or 0
  gates[model] = found
  return found
end

local function has_room(model)
  local count, door = singles(model), gate(model)
  return count < AHEAD * capacity(model) and (door.ahead == math.huge or count - door.running < door.ahead)
end

-- The models that may take a call of this lane now.
local function models_of(lane)
  local models, first, rest = {}, string.match(lane, '^([^>]+)>(.*)$')
  if first and not gate(first).closed then return { first } end
  for model in string.gmatch(rest or lane, '[^,]+') do models[#models + 1] = model end
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

local function wait(lane, priority, call)
  redis.call('ZADD', prefix .. 'lane:' .. lane, 'NX', tonumber(priority) * 1e13 + now, call)
  redis.call('SADD', LANES, lane)
end

-- Where a call waits: "lane", "delayed", or nil.
local function waits(call)
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    if redis.call('ZSCORE', prefix .. 'lane:' .. lane, call) then return 'lane' end
  end
  return redis.call('ZSCORE', prefix .. 'delayed', call) and 'delayed' or nil
end

-- `count` arguments from the `first` on.
local function listed(first, count)
  local list = {}
  for k = first, first + count - 1 do list[#list + 1] = ARGV[k] end
  return list
end
local function listed_from(first) return listed(first, #ARGV - first + 1) end

local step = {}

-- Put a call in its lane and admit whom there is room for, perhaps itself.
-- call, lane, priority, lease_ms, most, number of models, all models, then per candidate: model, base, slope.
-- A call that is in flight or waits already stays where it is; of one in flight the model is told again.
function step.admit(call, lane, priority, lease_ms, most, models)
  for _, model in ipairs(listed(9, tonumber(models))) do
    if redis.call('ZSCORE', prefix .. 'single:' .. model, call) then return { call, model } end
  end
  if waits(call) then return {} end
  local preference = {}
  for k = 9 + tonumber(models), #ARGV, 3 do preference[ARGV[k]] = { tonumber(ARGV[k + 1]), tonumber(ARGV[k + 2]) } end
  wait(lane, priority, call)
  return feed(tonumber(most), tonumber(lease_ms), call, preference)
end

-- lease_ms, most
function step.feed(lease_ms, most) return feed(tonumber(most), tonumber(lease_ms)) end

-- A call has ended: forget it, admit the next. call, model, lease_ms, most (0 = nobody now)
function step.release(call, model, lease_ms, most)
  redis.call('ZREM', prefix .. 'single:' .. model, call)
  redis.call('ZREM', prefix .. 'part:' .. model, call)
  return feed(tonumber(most), tonumber(lease_ms))
end

-- A call starts to run, or runs on: its lease lasts until now + lease_ms. "single" or "part", model, lease_ms, calls…
function step.hold(kind, model, lease_ms)
  local key, till, held = prefix .. kind .. ':' .. model, now + tonumber(lease_ms), 0
  for _, call in ipairs(listed_from(6)) do
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

-- Leave everything: a job was cancelled. Number of models, the models, then calls (Lua unpacks some thousands)
function step.withdraw(models)
  local calls = listed_from(4 + tonumber(models))
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do redis.call('ZREM', prefix .. 'lane:' .. lane, unpack(calls)) end
  redis.call('ZREM', prefix .. 'delayed', unpack(calls))
  redis.call('HDEL', prefix .. 'delayed-to', unpack(calls))
  for _, model in ipairs(listed(4, tonumber(models))) do
    redis.call('ZREM', prefix .. 'single:' .. model, unpack(calls))
    redis.call('ZREM', prefix .. 'part:' .. model, unpack(calls))
  end
  return {}
end

-- A call leaves its slot and comes back when it is due, at once to its lane where that is now.
-- call, model, lane, priority, delay_ms, lease_ms, most
function step.delay(call, model, lane, priority, delay_ms, lease_ms, most)
  if tonumber(delay_ms) <= 0 then
    wait(lane, priority, call)
    return step.release(call, model, lease_ms, most)
  end
  redis.call('ZADD', prefix .. 'delayed', now + tonumber(delay_ms), call)
  redis.call('HSET', prefix .. 'delayed-to', call, lane .. '|' .. priority)
  return step.release(call, model, lease_ms, most)
end

-- Bring back what is due, then admit. lease_ms, most
function step.tick(lease_ms, most)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
  for _, call in ipairs(due) do
    local lane, priority = string.match(redis.call('HGET', prefix .. 'delayed-to', call), '^(.-)|(.*)$')
    wait(lane, priority, call)
    redis.call('ZREM', prefix .. 'delayed', call)
    redis.call('HDEL', prefix .. 'delayed-to', call)
  end
  return feed(tonumber(most), tonumber(lease_ms))
end

-- Calls whose lease has lapsed: kind, model, call, … At most `most` a model. most, then models
function step.lapsed(most)
  local found = {}
  for _, model in ipairs(listed_from(4)) do
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

-- Where calls stand: "lane", "delayed", "single", "part" or "nowhere" each. Number of models, the models, then calls
function step.find(models)
  local known, places = listed(4, tonumber(models)), {}
  local function held(call)
    for _, model in ipairs(known) do
      for _, kind in ipairs({ 'single', 'part' }) do
        if redis.call('ZSCORE', prefix .. kind .. ':' .. model, call) then return kind end
      end
    end
  end
  for _, call in ipairs(listed_from(4 + tonumber(models))) do
    places[#places + 1] = waits(call) or held(call) or 'nowhere'
  end
  return places
end

-- The state that a decision needs, in one read: turn key ("" = none), then models.
-- Returns turn, then per model: capacity, singles, parts, waiting for it (alone or shared).
function step.snapshot(turn)
  local seen = { turn ~= '' and redis.call('INCR', prefix .. 'turn:' .. turn) or 0 }
  local lanes = {}
  for _, lane in ipairs(redis.call('SMEMBERS', LANES)) do
    lanes[#lanes + 1] = { ',' .. string.gsub(lane, '>.*$', '') .. ',', redis.call('ZCARD', prefix .. 'lane:' .. lane) }
  end
  for _, model in ipairs(listed_from(4)) do
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

-- Have the sweeper look at jobs: pairs of seconds from now, job
function step.watch()
  for k = 3, #ARGV, 2 do redis.call('ZADD', prefix .. 'active', now / 1000 + tonumber(ARGV[k]), ARGV[k + 1]) end
  return {}
end

-- Jobs whose time for a look has come, the longest due first. most
function step.due(most)
  return redis.call('ZRANGE', prefix .. 'active', '-inf', now / 1000, 'BYSCORE', 'LIMIT', 0, most)
end

-- Whether `name` has the role for the next ms: nobody else has it then. role, name, ms
function step.lead(role, name, ms)
  local key = prefix .. 'leader:' .. role
  local holder = redis.call('GET', key)
  if holder and holder ~= name then return 0 end
  redis.call('SET', key, name, 'PX', ms)
  return 1
end

return step[ARGV[2]](unpack(ARGV, 3, 10))
