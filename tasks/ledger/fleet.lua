-- The fleet's side: who waits, who is in flight, and the feeder that admits. Choosing and admitting is one step.
--
--   KEYS  1 lists      set: the lists in which somebody waits
--         2 configured hash: model -> capacity as configured
--         3 scaled     hash: model -> capacity as an operator set it
--   ARGV  1 prefix of the fleet's other keys ("pm:{fleet}:"), 2 the step, then its arguments
--
--   <prefix>list:<model>[,<model>…]  sorted set: calls that any of these models may take; score = priority, time
--   <prefix>list:<model>,…><model>,… the same for calls that wait for the first; the rest may, while these are closed
--   <prefix>single:<model>           sorted set: single calls queued or running there; score = lease's end (ms)
--   <prefix>part:<model>             the same for the parts of fan-outs
--   <prefix>preferences                   hash: call that waits -> "<model> <base> <slope> …", how much it wants each model
--   <prefix>drained                  hash: model -> 1, or "move": an operator has it take no new calls
--   <prefix>served                   hash: model -> when a worker last said that it serves it (ms)
--   <prefix>serving                  sorted set: "<process>|<model>"; score = until when that holds (ms)
--   <prefix>deadlines                sorted set: jobs that have a deadline and may not have ended; score = it (s)
--   <prefix>delayed                  sorted set: calls that come back later; score = due (ms)
--   <prefix>delayed-to               hash: call -> "<list>|<priority>", where it comes back to
--   <prefix>active                   sorted set: jobs that have not ended; score = next look of the sweeper (s)
--   <prefix>leader:<role>            string: who has the role, for as long as the key lives
--   <prefix>limiter:<name>              hash: limits and breaker of a model or a key, see limiter.lua; read alone
--   <prefix>running:<name>           sorted set: attempts in flight there; read alone
--
-- A call is "<job>.<index>". In-flight calls are leases: a dead worker's are gone once they lapse, no counter drifts.
-- All keys carry the tag {fleet}; nothing of a job is touched here. Time is the server's.
-- Lists of arguments are read from ARGV: Lua can't unpack the thousands that a busy worker holds.

local LISTS, CONFIGURED, SCALED, prefix = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
-- A model's queue holds this many times its capacity of single calls, so that no worker ever runs dry.
local AHEAD = 2
-- A model that was served and of which no worker has said so for this long (ms) is dead. Longer than a worker's restart,
-- than a running call's lease, and than ten of the beats by which workers say so may be missed.
local SILENT = 10000

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
-- In flight are those whose lease is good: what a dead worker held is no load, even while nobody sweeps. (It still has
-- its place in the queue, see has_room, until the sweeper has looked at it.) A call that stands in a queue for long has
-- its lease renewed by the next sweep, for which it has this long (ms).
local SWEEP = 1500
local function flying(kind, model)
  return redis.call('ZCOUNT', prefix .. kind .. ':' .. model, now - SWEEP, '+inf')
end
local function load(model)
  local room = capacity(model)
  if room == 0 then return math.huge end
  return (flying('single', model) + flying('part', model)) / room
end

-- Of a bucket as in limiter.lua: how many calls of `size` may start within the horizon.
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
local function left_of(left, till, size)
  if not left or now + HORIZON_US / 1000 >= tonumber(till) then return math.huge end
  return math.max(0, math.floor(left / size))
end

-- A model's limiter: `closed` (why nobody is sent there, false where it is open), and how many calls may stand in its queue
-- beside those that run. No more than its rate allows: who is refused at the door would come and go.
local limiters = {}
local function limiter(model)
  if limiters[model] then return limiters[model] end
  local name = prefix .. 'limiter:model:' .. model
  local open_until, probe_until, held, rpm, tpm, window, r, t, size, day, key = unpack(redis.call('HMGET', name,
    'open_until', 'probe_until', 'paused_until', 'rpm', 'tpm', 'window', 'r', 't', 'mean_tok', 'spent_day', 'key'))
  local found = { ahead = math.huge }
  open_until, held, size = tonumber(open_until), (tonumber(held) or 0) - now, math.max(1, tonumber(size) or 1)
  local served = tonumber(redis.call('HGET', prefix .. 'served', model))
  found.closed = served and now - served > SILENT and 'dead'
    or redis.call('HEXISTS', prefix .. 'drained', model) == 1 and 'drained'
    or open_until and now < open_until and 'breaker'
    or tonumber(day) == math.floor(now / 86400000) and 'budget'
    or held > 5000 and 'paused'
  if found.closed then
    found.ahead = 0
  elseif held > 500 then
    found.ahead = 0
  else
    local said = redis.call('HMGET', name, 'said_r', 'said_r_until', 'said_t', 'said_t_until',
      'left_r', 'left_r_until', 'left_t', 'left_t_until')
    found.ahead = math.min(starts('r', tonumber(rpm), r, window, 1, said[1], said[2]),
      starts('t', tonumber(tpm), t, window, size, said[3], said[4]),
      left_of(said[5], said[6], 1), left_of(said[7], said[8], size))
    if open_until then
      found.ahead = math.min(found.ahead, now < (tonumber(probe_until) or 0) and 0 or 1)
    end
    if key then
      local shared = redis.call('HMGET', prefix .. 'limiter:key:' .. key, 'rpm', 'tpm', 'window', 'r', 't')
      found.ahead = math.min(found.ahead, starts('r', tonumber(shared[1]), shared[4], shared[3], 1),
        starts('t', tonumber(shared[2]), shared[5], shared[3], size))
    end
  end
  local running = prefix .. 'running:model:' .. model
  found.running = found.ahead < math.huge and redis.call('ZCOUNT', running, now, '+inf') or 0
  limiters[model] = found
  return found
end

local function has_room(model)
  local count, door = singles(model), limiter(model)
  if door.closed then return false end
  return count < AHEAD * capacity(model) and (door.ahead == math.huge or count - door.running < door.ahead)
end

-- The models that may take a call of this list now: the rest of them while all of the first are closed.
local function models_of(list)
  local candidates, rest = string.match(list, '^([^>]+)>(.*)$')
  local models, open = {}, false
  for model in string.gmatch(candidates or list, '[^,]+') do
    models[#models + 1], open = model, open or not limiter(model).closed
  end
  if not rest or open then return models end
  models = {}
  for model in string.gmatch(rest, '[^,]+') do models[#models + 1] = model end
  return models
end

-- The model with room that the call prefers: the least of base + slope * load. Without preference, the least loaded.
local function choose(list, preference)
  local best, least
  for _, model in ipairs(models_of(list)) do
    if has_room(model) then
      local p = preference and preference[model]
      local score = p and (p[1] + p[2] * load(model)) or load(model)
      if not best or score < least then best, least = model, score end
    end
  end
  return best
end

-- A list's name: the models that its calls wait for, the first `candidates` or all (0), and those for while these are closed.
local function list_name(models, candidates)
  candidates = tonumber(candidates)
  local first, rest = {}, {}
  for k, model in ipairs(models) do
    if candidates == 0 or k <= candidates then first[#first + 1] = model else rest[#rest + 1] = model end
  end
  table.sort(first)
  table.sort(rest)
  return table.concat(first, ',') .. (#rest > 0 and '>' .. table.concat(rest, ',') or '')
end

-- How much a call wants its models: from pairs of three as they were sent, or as they were kept while it waits.
-- What chooses the least loaded needs no record: that is what calls without preference do. Only whose turn it is among
-- equals is lost with it, which tells where all have room: there the call does not wait, and what it was sent with counts.
local preferences, plain = {}, {}
local function read_preferences(call, flat, first)
  local models, preference = {}, {}
  plain[call] = true
  for k = first, #flat - 2, 3 do
    local base, slope = tonumber(flat[k + 1]), tonumber(flat[k + 2])
    models[#models + 1], preference[flat[k]] = flat[k], { base, slope }
    plain[call] = plain[call] and slope == 1 and math.abs(base) < 1e-6
  end
  plain[call] = plain[call] or #models < 2
  preferences[call] = #models > 1 and preference or false
  return models, preference
end
local function keep_preferences(call, flat, first)
  if not plain[call] then redis.call('HSET', prefix .. 'preferences', call, table.concat(flat, ' ', first)) end
end
local kept_any
local function preferences_of(call)
  if preferences[call] == nil then
    if kept_any == nil then kept_any = redis.call('EXISTS', prefix .. 'preferences') == 1 end
    local kept, flat = kept_any and redis.call('HGET', prefix .. 'preferences', call), {}
    for word in string.gmatch(kept or '', '[^ ]+') do flat[#flat + 1] = word end
    read_preferences(call, flat, 1)
  end
  return preferences[call] or nil
end

-- Calls in a model's queue, running, or waiting for this one.
local function pending(model)
  local count = flying('single', model) + flying('part', model)
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
    if list == model or string.sub(list, 1, #model + 1) == model .. '>' then
      count = count + redis.call('ZCARD', prefix .. 'waiting:' .. list)
    end
  end
  return count
end

-- Bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016): put the first of
-- the first `own` models to the front that has less than `balance` times its share, by capacity, of all their calls and
-- this one.
local function level(models, balance, own)
  local all, room, counts = 1, 0, {}
  for k = 1, own do
    local model = models[k]
    counts[k] = pending(model)
    all, room = all + counts[k], room + (limiter(model).closed and 0 or capacity(model))
  end
  for k = 1, own do
    local model = models[k]
    if not limiter(model).closed and room > 0 and counts[k] < math.ceil(balance * all * capacity(model) / room) then
      table.insert(models, 1, table.remove(models, k))
      return
    end
  end
end

-- Admit in order of priority and time, over all lists, until nobody who waits finds room.
-- Returns call, model, call, model, …
local function feed(most, lease_ms)
  local admitted = {}
  while #admitted < 2 * most do
    local first, first_score, first_list, first_model
    for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
      local head = redis.call('ZRANGE', prefix .. 'waiting:' .. list, 0, 0, 'WITHSCORES')
      if not head[1] then
        redis.call('SREM', LISTS, list)
      elseif not first or tonumber(head[2]) < first_score then
        local model = choose(list, preferences_of(head[1]))
        if model then first, first_score, first_list, first_model = head[1], tonumber(head[2]), list, model end
      end
    end
    if not first then break end
    redis.call('ZREM', prefix .. 'waiting:' .. first_list, first)
    if preferences[first] and not plain[first] then redis.call('HDEL', prefix .. 'preferences', first) end
    redis.call('ZADD', prefix .. 'single:' .. first_model, now + lease_ms, first)
    admitted[#admitted + 1] = first
    admitted[#admitted + 1] = first_model
  end
  return admitted
end

-- A call waits from now, or has waited for `age` ms.
local function wait(list, priority, call, age)
  redis.call('ZADD', prefix .. 'waiting:' .. list, 'NX', tonumber(priority) * 1e13 + now - (age or 0), call)
  redis.call('SADD', LISTS, list)
end

-- Where a call waits: "list", "delayed", or nil.
local function waits(call)
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
    if redis.call('ZSCORE', prefix .. 'waiting:' .. list, call) then return 'waiting' end
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

-- Let a call wait and admit whom there is room for, perhaps itself.
-- call, candidates (how many of its candidates it waits for, from the first; the rest may take it while these are closed; 0:
-- all), "<balance>:<how many it holds for>" ("" = none), priority, lease_ms, most, number of models, all models, then
-- per candidate: model, base, slope.
-- A call that is in flight or waits already stays where it is; of one in flight the model is told again.
function step.admit(call, candidates, balance, priority, lease_ms, most, models)
  for _, model in ipairs(listed(10, tonumber(models))) do
    if redis.call('ZSCORE', prefix .. 'single:' .. model, call) then return { call, model } end
  end
  if waits(call) then return {} end
  local flat = listed_from(10 + tonumber(models))
  local wanted = read_preferences(call, flat, 1)
  if balance ~= '' then
    local factor, own = string.match(balance, '^(.-):(.*)$')
    level(wanted, tonumber(factor), tonumber(own))
  end
  wait(list_name(wanted, candidates), priority, call)
  keep_preferences(call, flat, 1)
  return feed(tonumber(most), tonumber(lease_ms))
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
function step.lease(kind, model, lease_ms)
  local key, till, held = prefix .. kind .. ':' .. model, now + tonumber(lease_ms), 0
  for _, call in ipairs(listed_from(6)) do
    held = held + redis.call('ZADD', key, till, call)
    -- A part that was tried again came through the backlog, as single calls do: it has one lease, not two.
    if kind == 'part' then redis.call('ZREM', prefix .. 'single:' .. model, call) end
  end
  return held
end

-- How long the lease of a call still lasts, in ms; below zero: nobody holds it. call, model
function step.lease_left(call, model)
  local till = redis.call('ZSCORE', prefix .. 'single:' .. model, call)
    or redis.call('ZSCORE', prefix .. 'part:' .. model, call)
  return till and tonumber(till) - now or -1
end

-- Leave everything: a job was cancelled. Number of models, the models, then calls (Lua unpacks some thousands)
function step.withdraw(models)
  local calls = listed_from(4 + tonumber(models))
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do redis.call('ZREM', prefix .. 'waiting:' .. list, unpack(calls)) end
  redis.call('ZREM', prefix .. 'delayed', unpack(calls))
  redis.call('HDEL', prefix .. 'delayed-to', unpack(calls))
  redis.call('HDEL', prefix .. 'preferences', unpack(calls))
  for _, model in ipairs(listed(4, tonumber(models))) do
    redis.call('ZREM', prefix .. 'single:' .. model, unpack(calls))
    redis.call('ZREM', prefix .. 'part:' .. model, unpack(calls))
  end
  return {}
end

-- A call leaves its slot and comes back when it is due, at once to its list where that is now.
-- call, model, candidates, priority, delay_ms, lease_ms, most, then per candidate as for `admit`.
function step.delay(call, model, candidates, priority, delay_ms, lease_ms, most)
  local flat = listed_from(10)
  local list = list_name(read_preferences(call, flat, 1), candidates)
  keep_preferences(call, flat, 1)
  if tonumber(delay_ms) <= 0 then
    wait(list, priority, call)
    return step.release(call, model, lease_ms, most)
  end
  redis.call('ZADD', prefix .. 'delayed', now + tonumber(delay_ms), call)
  redis.call('HSET', prefix .. 'delayed-to', call, list .. '|' .. priority)
  return step.release(call, model, lease_ms, most)
end

-- A call that stands queued at a model, or waits in a list, shall wait in another list: for who is left of its models.
-- It stands there as if it had come `age_ms` ago.
-- call, model, candidates, priority, age_ms, lease_ms, most, then per candidate as for `admit`.
function step.move(call, model, candidates, priority, age_ms, lease_ms, most)
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do redis.call('ZREM', prefix .. 'waiting:' .. list, call) end
  redis.call('HDEL', prefix .. 'preferences', call)
  local flat = listed_from(10)
  local list = list_name(read_preferences(call, flat, 1), candidates)
  keep_preferences(call, flat, 1)
  wait(list, priority, call, tonumber(age_ms))
  return step.release(call, model, lease_ms, most)
end

-- Calls that wait in lists none of whose models is open, at most so many a list, any of them: list, call, … most
function step.waiting_for_closed(most)
  local found = {}
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
    local open = false
    for model in string.gmatch(list, '[^,>]+') do open = open or not limiter(model).closed end
    for _, call in ipairs(open and {} or redis.call('ZRANDMEMBER', prefix .. 'waiting:' .. list, most)) do
      found[#found + 1], found[#found + 2] = list, call
    end
  end
  return found
end

-- Which list each call waits in, and how many wait before it there: list, number, …; "" and 0 for one that waits in none
function step.waiting_positions()
  local found = {}
  for _, call in ipairs(listed_from(3)) do
    local at, before = '', 0
    for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
      local rank = redis.call('ZRANK', prefix .. 'waiting:' .. list, call)
      if rank then at, before = list, rank end
    end
    found[#found + 1], found[#found + 2] = at, before
  end
  return found
end

-- Bring back what is due, then admit. lease_ms, most
function step.tick(lease_ms, most)
  local due = redis.call('ZRANGEBYSCORE', prefix .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)
  for _, call in ipairs(due) do
    local list, priority = string.match(redis.call('HGET', prefix .. 'delayed-to', call), '^(.-)|(.*)$')
    wait(list, priority, call)
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

-- Where calls stand: "list", "delayed", "single", "part" or "nowhere" each. Number of models, the models, then calls
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
-- Returns turn, then fifteen values a model: capacity, singles, parts, waiting for it (alone or shared), of these bound
-- to it, why it is closed ("" = open), and of how it did (limiter.lua; "" = unknown): ms a call, ms since that was seen,
-- faults in a row, ms since the last, share of failures, ms in the queue, ms a token, requests and tokens lately.
function step.snapshot(turn)
  local seen = { turn ~= '' and redis.call('INCR', prefix .. 'turn:' .. turn) or 0 }
  local lists = {}
  for _, list in ipairs(redis.call('SMEMBERS', LISTS)) do
    local candidates = string.gsub(list, '>.*$', '')
    lists[#lists + 1] = { ',' .. candidates .. ',', redis.call('ZCARD', prefix .. 'waiting:' .. list),
      not string.find(candidates, ',', 1, true) }
  end
  local minute, part = math.floor(now / 60000), 1 - (now % 60000) / 60000
  for _, model in ipairs(listed_from(4)) do
    local waiting, bound = 0, 0
    for _, list in ipairs(lists) do
      if string.find(list[1], ',' .. model .. ',', 1, true) then
        waiting, bound = waiting + list[2], bound + (list[3] and list[2] or 0)
      end
    end
    local did = redis.call('HMGET', prefix .. 'limiter:model:' .. model, 'lat', 'lat_at', 'faults', 'fault_at', 'err', 'qw',
      'tok_ms', 'minute', 'requests', 'tokens', 'requests_before', 'tokens_before')
    local age = minute - (tonumber(did[8]) or 0)
    local function lately(current, before)
      if age == 0 then return math.floor((tonumber(current) or 0) + (tonumber(before) or 0) * part + 0.5) end
      return age == 1 and math.floor((tonumber(current) or 0) * part + 0.5) or 0
    end
    for _, value in ipairs({
      capacity(model), flying('single', model), flying('part', model), waiting, bound,
      limiter(model).closed or '',
      did[1] or '', did[2] and now - did[2] or '', did[3] or '', did[4] and now - did[4] or '', did[5] or '',
      did[6] or '', did[7] or '', lately(did[9], did[11]), lately(did[10], did[12]),
    }) do seen[#seen + 1] = value end
  end
  return seen
end

-- An operator has a model take no new calls, or takes that back. model, 1, "move" (what is queued shall go) or 0
function step.drain(model, on)
  if on ~= '0' then return redis.call('HSET', prefix .. 'drained', model, on) end
  return redis.call('HDEL', prefix .. 'drained', model)
end

-- A worker process says which models it serves. process, their number, the models, then those that it left
function step.serve(process, count)
  local serving = prefix .. 'serving'
  redis.call('ZREMRANGEBYSCORE', serving, '-inf', now)
  for k, model in ipairs(listed_from(5)) do
    if k <= tonumber(count) then
      redis.call('ZADD', serving, now + SILENT, process .. '|' .. model)
      redis.call('HSET', prefix .. 'served', model, now)
    else
      redis.call('ZREM', serving, process .. '|' .. model)
    end
  end
  return {}
end

-- Of every process and model that it serves: "<process>|<model>", …
function step.serving() return redis.call('ZRANGE', prefix .. 'serving', now, '+inf', 'BYSCORE') end

-- These jobs shall have ended: pairs of seconds from now, job
function step.set_deadlines()
  for k = 3, #ARGV, 2 do redis.call('ZADD', prefix .. 'deadlines', now / 1000 + tonumber(ARGV[k]), ARGV[k + 1]) end
  return {}
end

-- Jobs whose deadline comes within so many seconds, the first to come first: job, seconds left, … seconds, most
function step.near_deadlines(seconds, most)
  local flat, found = redis.call('ZRANGE', prefix .. 'deadlines', '-inf', now / 1000 + tonumber(seconds), 'BYSCORE',
    'LIMIT', 0, most, 'WITHSCORES'), {}
  for k = 1, #flat, 2 do
    found[k], found[k + 1] = flat[k], string.format('%.3f', tonumber(flat[k + 1]) - now / 1000)
  end
  return found
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
