-- Admission: calls wait in lists until a model has room for them. Choosing a model and giving the call its slot in that
-- model's queue is one step. A call is "<job>.<index>". Keys beside those of model_state.lua, after the prefix:
--
--   waiting-lists                       set: the names of the waiting lists that are not empty
--   waiting:<model>[,<model>…]          sorted set: calls that any of these models may take; score = priority, then time
--   waiting:<model>,…><model>,…         the same; the models after ">" are fallbacks, while all of the others are closed
--   preferences                         hash: waiting call -> "<model> <base> <slope> …", how much it wants each model
--   delayed                             sorted set: calls that come back later; score = when (ms)
--   delayed-to                          hash: delayed call -> "<waiting list>|<priority>", where it comes back to

local LISTS, PREFERENCES = PREFIX .. 'waiting-lists', PREFIX .. 'preferences'
-- A model's queue holds this many times its capacity of single calls, so that no worker runs dry.
local AHEAD = 2
-- Calls that one step admits at most: it bounds how long the server works on it.
local MOST_ADMITTED = 200
-- Calls are admitted to a queue if they may start within this time (µs).
local HORIZON = 2000000

local function list_key(list) return PREFIX .. 'waiting:' .. list end
local function all_lists() return redis.call('SMEMBERS', LISTS) end

-- -- the room of a model --------------------------------------------------------------------------------------------

local capacities = {}
local function capacity_of(model)
  local known = capacities[model]
  if not known then
    known = capacity(model) or 0
    capacities[model] = known
  end
  return known
end

local function load(model)
  local slots = capacity_of(model)
  if slots == 0 then return math.huge end
  return (in_flight('single', model) + in_flight('part', model)) / slots
end

-- How many calls of `size` may start within the horizon by a limiter's rate
local function starts(limiter, kind, size)
  local limit = limit_of(limiter, kind)
  if not limit then return math.huge end
  local interval, burst = pace(kind, limit, window_of(limiter))
  local horizon, full = now_us + HORIZON, tonumber(limiter[kind]) or 0
  -- The first may overdraw a bucket that was full for long; those behind it find none that is fuller than full.
  local one = full + (math.min(size, limit) - burst) * interval <= horizon and 1 or 0
  return math.max(one, math.floor(((horizon - math.max(full, now_us)) / interval + burst) / size))
end

-- How many calls of `size` the provider has left, where it says so and has no more before the horizon
local function left(limiter, kind, size)
  local count, left_until = left_of(limiter, kind)
  if not count or now + HORIZON / 1000 >= left_until then return math.huge end
  return math.max(0, math.floor(count / size))
end

-- The fields of a limiter that admission needs; an absent one is false.
local function read_limiter(name)
  local v = redis.call('HMGET', limiter_key(name), 'open_until', 'probe_until', 'paused_until', 'spent_day', 'key',
    'mean_tok', 'rpm', 'tpm', 'window', 'r', 't', 'said_r', 'said_r_until', 'said_t', 'said_t_until',
    'left_r', 'left_r_until', 'left_t', 'left_t_until')
  return { open_until = v[1], probe_until = v[2], paused_until = v[3], spent_day = v[4], key = v[5],
    mean_tok = v[6], rpm = v[7], tpm = v[8], window = v[9], r = v[10], t = v[11],
    said_r = v[12], said_r_until = v[13], said_t = v[14], said_t_until = v[15],
    left_r = v[16], left_r_until = v[17], left_t = v[18], left_t_until = v[19] }
end

-- How many calls may stand in a model's queue beside those that run, by its limiter and its key's: a call that must wait
-- longer would come and go.
local function most_ahead(limiter)
  if (tonumber(limiter.paused_until) or 0) - now > PAUSE_IN_SLOT then return 0 end
  local size = math.max(1, tonumber(limiter.mean_tok) or 1)
  local most = math.min(starts(limiter, 'r', 1), starts(limiter, 't', size))
  most = math.min(most, left(limiter, 'r', 1), left(limiter, 't', size))
  if limiter.open_until then most = math.min(most, now < (tonumber(limiter.probe_until) or 0) and 0 or 1) end
  if limiter.key then
    local key = read_limiter('key:' .. limiter.key)
    most = math.min(most, starts(key, 'r', 1), starts(key, 't', size))
  end
  return most
end

-- A model's door: `closed` (why no call is sent there, false where it is open), `ahead` (see `most_ahead`), and how many
-- attempts run
local doors = {}
local function door(model)
  if not doors[model] then
    local limiter = read_limiter('model:' .. model)
    local closed = closed_reason(model, limiter)
    local ahead = closed and 0 or most_ahead(limiter)
    local running = ahead < math.huge and redis.call('ZCOUNT', running_key('model:' .. model), now, '+inf') or 0
    doors[model] = { closed = closed, ahead = ahead, running = running }
  end
  return doors[model]
end

local function has_room(model)
  local at = door(model)
  if at.closed then return false end
  local queued = redis.call('ZCARD', PREFIX .. 'single:' .. model)
  return queued < AHEAD * capacity_of(model) and (at.ahead == math.huge or queued - at.running < at.ahead)
end

-- -- preferences ----------------------------------------------------------------------------------------------------

-- How much each call wants its models, as { base, slope } by model; false without preference. A call of one model has
-- none, and a call that takes the least loaded needs none. `is_plain` marks these calls: nothing is kept for them.
local preferences, is_plain = {}, {}

-- Read model, base, slope, … from `words`, from the `first` on; returns the models in order.
local function read_preferences(call, words, first)
  local models, preference, plain = {}, {}, true
  for k = first, #words - 2, 3 do
    local base, slope = tonumber(words[k + 1]), tonumber(words[k + 2])
    models[#models + 1], preference[words[k]] = words[k], { base, slope }
    plain = plain and slope == 1 and math.abs(base) < 1e-6
  end
  is_plain[call] = plain or #models < 2
  preferences[call] = #models > 1 and preference or false
  return models
end

local function keep_preferences(call, words, first)
  if not is_plain[call] then redis.call('HSET', PREFERENCES, call, table.concat(words, ' ', first)) end
end

local any_kept
local function preference_of(call)
  if preferences[call] == nil then
    if any_kept == nil then any_kept = redis.call('EXISTS', PREFERENCES) == 1 end
    local kept, words = any_kept and redis.call('HGET', PREFERENCES, call) or '', {}
    for word in string.gmatch(kept, '[^ ]+') do words[#words + 1] = word end
    read_preferences(call, words, 1)
  end
  return preferences[call] or nil
end

-- -- waiting lists --------------------------------------------------------------------------------------------------

-- The name of the list of calls with these models, of which the first `candidates` are candidates, the rest fallbacks
local function list_of(models, candidates)
  local first, rest = {}, {}
  for k, model in ipairs(models) do
    if k <= candidates then first[#first + 1] = model else rest[#rest + 1] = model end
  end
  table.sort(first)
  table.sort(rest)
  return table.concat(first, ',') .. (#rest > 0 and '>' .. table.concat(rest, ',') or '')
end

-- The models that may take a call of this list now: the fallbacks while all candidates are closed
local function models_of(list)
  local candidates, fallbacks = string.match(list, '^([^>]+)>(.*)$')
  local models, is_open = {}, false
  for model in string.gmatch(candidates or list, '[^,]+') do
    models[#models + 1], is_open = model, is_open or not door(model).closed
  end
  if not fallbacks or is_open then return models end
  models = {}
  for model in string.gmatch(fallbacks, '[^,]+') do models[#models + 1] = model end
  return models
end

-- The model with room that a call prefers: the least base + slope * load. Without preference, the least loaded.
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

-- Calls in a model's queue, running, or waiting for this model first
local function pending(model)
  local count = in_flight('single', model) + in_flight('part', model)
  for _, list in ipairs(all_lists()) do
    if list == model or string.sub(list, 1, #model + 1) == model .. '>' then
      count = count + redis.call('ZCARD', list_key(list))
    end
  end
  return count
end

-- Bounded load (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016): of the first `among`
-- models put to the front the first that has less than `balance` times its share, by capacity, of all their calls and
-- this one.
local function level(models, balance, among)
  local all, slots, counts = 1, 0, {}
  for k = 1, among do
    local model = models[k]
    counts[k] = pending(model)
    all, slots = all + counts[k], slots + (door(model).closed and 0 or capacity_of(model))
  end
  for k = 1, among do
    local model = models[k]
    if not door(model).closed and slots > 0 and counts[k] < math.ceil(balance * all * capacity_of(model) / slots) then
      table.insert(models, 1, table.remove(models, k))
      return
    end
  end
end

-- Have a call wait from now on, or as if it had waited for `age` ms.
local function wait(list, priority, call, age)
  redis.call('ZADD', list_key(list), 'NX', tonumber(priority) * 1e13 + now - (age or 0), call)
  redis.call('SADD', LISTS, list)
end

-- Where a call waits: "waiting", "delayed", or nil
local function find_waiting(call)
  for _, list in ipairs(all_lists()) do
    if redis.call('ZSCORE', list_key(list), call) then return 'waiting' end
  end
  return redis.call('ZSCORE', PREFIX .. 'delayed', call) and 'delayed' or nil
end

-- Admit calls in order of priority and time, over all lists, until none that waits finds room.
-- Returns call, model, …
local function admit_waiting(lease_ms)
  local admitted = {}
  while #admitted < 2 * MOST_ADMITTED do
    local first, first_score, first_list, first_model
    for _, list in ipairs(all_lists()) do
      local head = redis.call('ZRANGE', list_key(list), 0, 0, 'WITHSCORES')
      if not head[1] then
        redis.call('SREM', LISTS, list)
      elseif not first or tonumber(head[2]) < first_score then
        local model = choose(list, preference_of(head[1]))
        if model then first, first_score, first_list, first_model = head[1], tonumber(head[2]), list, model end
      end
    end
    if not first then break end
    redis.call('ZREM', list_key(first_list), first)
    if not is_plain[first] then redis.call('HDEL', PREFERENCES, first) end
    redis.call('ZADD', PREFIX .. 'single:' .. first_model, now + tonumber(lease_ms), first)
    admitted[#admitted + 1] = first
    admitted[#admitted + 1] = first_model
  end
  return admitted
end

local function leave_queue(call, model)
  redis.call('ZREM', PREFIX .. 'single:' .. model, call)
  redis.call('ZREM', PREFIX .. 'part:' .. model, call)
end

-- -- steps ----------------------------------------------------------------------------------------------------------
-- Each that admits returns call, model, … of the calls that were admitted. A ranking is the number of its `candidates`
-- and, at the end of `rest`, model, base, slope of each of its preferences.

-- Have a call wait and admit the calls for which there is room, perhaps this one. balance: bound of the load ("" =
-- none) among the first `leveled` preferences. rest: all models of the configuration, `models` of them; the preferences.
-- A call that waits or is in flight already stays where it is; one in flight is returned again.
function step.admit(call, candidates, balance, leveled, priority, lease_ms, models, rest)
  for k = 1, tonumber(models) do
    if redis.call('ZSCORE', PREFIX .. 'single:' .. rest[k], call) then return { call, rest[k] } end
  end
  if find_waiting(call) then return {} end
  local first = tonumber(models) + 1
  local wanted = read_preferences(call, rest, first)
  if balance ~= '' then level(wanted, tonumber(balance), tonumber(leveled)) end
  wait(list_of(wanted, tonumber(candidates)), priority, call)
  keep_preferences(call, rest, first)
  return admit_waiting(lease_ms)
end

-- Release the slot of a call that has ended, and admit the next.
function step.release(call, model, lease_ms)
  leave_queue(call, model)
  return admit_waiting(lease_ms)
end

-- Release a call's slot; the call waits again in delay_ms, or at once where that is not above 0. rest: preferences
function step.delay(call, model, candidates, priority, delay_ms, lease_ms, rest)
  local list = list_of(read_preferences(call, rest, 1), tonumber(candidates))
  keep_preferences(call, rest, 1)
  if tonumber(delay_ms) > 0 then
    redis.call('ZADD', PREFIX .. 'delayed', now + tonumber(delay_ms), call)
    redis.call('HSET', PREFIX .. 'delayed-to', call, list .. '|' .. priority)
  else
    wait(list, priority, call)
  end
  leave_queue(call, model)
  return admit_waiting(lease_ms)
end

-- Move a call from a model's queue, or from its waiting list, to the list of another ranking, as if it had come there
-- age_ms ago. rest: preferences
function step.move(call, model, candidates, priority, age_ms, lease_ms, rest)
  for _, list in ipairs(all_lists()) do redis.call('ZREM', list_key(list), call) end
  redis.call('HDEL', PREFERENCES, call)
  local list = list_of(read_preferences(call, rest, 1), tonumber(candidates))
  keep_preferences(call, rest, 1)
  wait(list, priority, call, tonumber(age_ms))
  leave_queue(call, model)
  return admit_waiting(lease_ms)
end

-- Bring back the delayed calls that are due, and admit.
function step.tick(lease_ms)
  for _, call in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. 'delayed', '-inf', now, 'LIMIT', 0, 1000)) do
    local list, priority = string.match(redis.call('HGET', PREFIX .. 'delayed-to', call), '^(.-)|(.*)$')
    wait(list, priority, call)
    redis.call('ZREM', PREFIX .. 'delayed', call)
    redis.call('HDEL', PREFIX .. 'delayed-to', call)
  end
  return admit_waiting(lease_ms)
end

-- Remove calls from all lists and queues. rest: all models, `models` of them; then calls (Lua unpacks some thousands)
function step.withdraw(models, rest)
  local first = tonumber(models) + 1
  for _, list in ipairs(all_lists()) do redis.call('ZREM', list_key(list), unpack(rest, first)) end
  redis.call('ZREM', PREFIX .. 'delayed', unpack(rest, first))
  redis.call('HDEL', PREFIX .. 'delayed-to', unpack(rest, first))
  redis.call('HDEL', PREFERENCES, unpack(rest, first))
  for k = 1, first - 1 do
    redis.call('ZREM', PREFIX .. 'single:' .. rest[k], unpack(rest, first))
    redis.call('ZREM', PREFIX .. 'part:' .. rest[k], unpack(rest, first))
  end
end

-- Where each call is: "waiting", "delayed", "single", "part" or "nowhere". rest: all models, `models` of them; calls
function step.find(models, rest)
  local places = {}
  local function find_queued(call)
    for k = 1, tonumber(models) do
      for _, kind in ipairs({ 'single', 'part' }) do
        if redis.call('ZSCORE', PREFIX .. kind .. ':' .. rest[k], call) then return kind end
      end
    end
  end
  for k = tonumber(models) + 1, #rest do
    places[#places + 1] = find_waiting(rest[k]) or find_queued(rest[k]) or 'nowhere'
  end
  return places
end

-- Calls in lists of which all models are closed, at most so many of a list, any of them: { list, call }, …
function step.waiting_for_closed(most)
  local found = {}
  for _, list in ipairs(all_lists()) do
    local is_open = false
    for model in string.gmatch(list, '[^,>]+') do is_open = is_open or not door(model).closed end
    for _, call in ipairs(is_open and {} or redis.call('ZRANDMEMBER', list_key(list), most)) do
      found[#found + 1] = { list, call }
    end
  end
  return found
end

-- The list in which each call waits ("" = none), and how many calls are before it there: { list, number }, … rest: calls
function step.waiting_positions(rest)
  local found = {}
  for k, call in ipairs(rest) do
    found[k] = { '', 0 }
    for _, list in ipairs(all_lists()) do
      local rank = redis.call('ZRANK', list_key(list), call)
      if rank then found[k] = { list, rank } end
    end
  end
  return found
end
