-- What a call takes before each attempt, and reports after it: the limits of the fleet, decided and booked in one step.
--
--   KEYS  1 configured hash: model -> capacity as configured
--         2 scaled     hash: model -> capacity as an operator set it
--   ARGV  1 prefix of the fleet's other keys ("pm:{fleet}:"), 2 the step, then its arguments
--
--   A limiter is a model or a provider's key: "model:<name>" or "key:<name>".
--   <prefix>limiter:<name>      hash: what was configured, and where it stands, see below
--   <prefix>running:<name>   sorted set: attempts in flight; score = lease's end (ms)
--
--   configured: key, rpm, tpm, concurrency, window (µs), budget (µ$ a day), hedge (share), and of the breaker
--               error_rate, least, rolling (ms), open_ms
--   rates:      r, t           when the bucket of requests, of tokens will be full again (µs): GCRA's arrival time
--               paused_until     nobody starts before (ms): the provider asked for it
--   heard:      said_r, said_t     limits a minute, as the provider tells them; until said_r_until, said_t_until (ms)
--               left_r, left_t     what it says may still come until left_r_until, left_t_until (ms)
--               n, tokens_n    requests and tokens granted so far: how many came after the one that is answered
--               heard_n        the latest request whose answer was heeded
--   breaker:    open_until, open_for (ms), why; probe, probe_until: the one attempt that it let through half open
--               b0 … b5        "<slot>:<good>:<bad>": attempts in six slices of the rolling window
--   budget:     day, usd       what was booked and spent on that day (UTC), µ$; spent_day: a call was refused for it
--   means:      mean_out, mean_tok    tokens of an answer, of a whole call
--   hedging:    saved          hedges that this model's calls have earned
--   live:       lat, lat_at    peak EWMA of a call's time (ms), and when it was last told
--               faults, fault_at   failures since the last answer, and the last of them; err: their share, smoothed
--               qw, tok_ms     ms in the model's queue, ms a token of the answer, smoothed (tasks/routing/model_statistics.py)
--   shown:      minute, requests, tokens, requests_before, tokens_before
--
-- An attempt in flight is a lease: a dead worker's are gone once they lapse. Time is the server's.

local CONFIGURED, SCALED, prefix = KEYS[1], KEYS[2], ARGV[1]

-- Of a limit, this share may come at once: 96 % stays for the even pace of requests.
local BURST = { r = 0.04, t = 0.10 }
-- A held model is not slept for in a slot longer than this (ms).
local SHORT = 500
-- A model that serves nobody is left alone for a minute, then twice as long each time, a quarter of an hour at most.
local UNUSABLE, LONGEST = 60000, 900000
local SLICES = 6
-- Tokens of an answer before any was seen, and the weight of a new one in the mean.
local FIRST_MEAN, WEIGHT = 256, 0.05
-- Hedges that can be saved up: a burst of slow answers after a quiet day must not double the calls.
local MOST_SAVED = 5
-- What a provider said of its limits counts for so long (ms), unless it says it again.
local HEARD = 120000
local DAY = 86400000
-- The window of a limit that a provider tells of a model that was never configured (µs).
local MINUTE = 60000000
local OPTIONS = { 'key', 'rpm', 'tpm', 'concurrency', 'window', 'budget', 'hedge', 'error_rate', 'least', 'rolling',
  'open_ms' }

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now = math.floor(now_us / 1000)

local function key_of(limiter) return prefix .. 'limiter:' .. limiter end
local function running_of(limiter) return prefix .. 'running:' .. limiter end
local function read(limiter)
  local flat, fields = redis.call('HGETALL', key_of(limiter)), { name = limiter }
  for k = 1, #flat, 2 do fields[flat[k]] = flat[k + 1] end
  return fields
end

-- GCRA (ATM Forum, TM 4.0): a bucket of `burst` that fills by one every `step` µs, so that no window holds more than
-- `limit`: burst + (limit - burst + 1) steps, of which the last ends outside. Steps are rounded up to quarters of a
-- µs, which a double holds exactly at today's dates: sums of them never drift.
local function pace(kind, limit, window)
  local burst = math.max(1, math.floor(limit * BURST[kind]))
  return math.ceil(4 * window / (limit - burst + 1)) / 4, burst
end

local RATES = { r = 'rpm', t = 'tpm' }

local function window_of(limiter) return tonumber(limiter.window) or MINUTE end

-- What was configured, or what the provider says where that is less; nil without either.
local function limit_of(limiter, kind)
  local limit, said = tonumber(limiter[RATES[kind]]), tonumber(limiter['said_' .. kind])
  if said and now < tonumber(limiter['said_' .. kind .. '_until']) and (not limit or said < limit) then return said end
  return limit
end

-- What may still come of what the provider said is left, and until when (ms); nil where nothing is known.
local function left_of(limiter, kind)
  local till = tonumber(limiter['left_' .. kind .. '_until'])
  if till and now < till then return tonumber(limiter['left_' .. kind]), till end
end

-- The buckets of a limiter: kind, tokens or requests that the call takes of it
local function buckets(limiter, tokens)
  local found = {}
  for kind, option in pairs(RATES) do
    local limit = limit_of(limiter, kind)
    if limit then
      local step, burst = pace(kind, limit, window_of(limiter))
      local size = kind == 'r' and 1 or tokens
      -- A call larger than the burst waits until the bucket was full for as long as it overdraws it.
      local arrival = tonumber(limiter[kind]) or 0
      found[#found + 1] = { limiter = limiter.name, kind = kind, option = option, arrival = arrival, cost = size * step,
        due = arrival + (math.min(size, limit) - burst) * step }
    end
  end
  return found
end

local function capacity(model)
  return tonumber(redis.call('HGET', SCALED, model) or redis.call('HGET', CONFIGURED, model) or nil)
end

local function full(limiter, most, id)
  if not most then return false end
  redis.call('ZREMRANGEBYSCORE', running_of(limiter), '-inf', now)
  return redis.call('ZCARD', running_of(limiter)) >= most and not redis.call('ZSCORE', running_of(limiter), id)
end

local function text(number) return string.format('%.17g', number) end
local function mean(limiter) return tonumber(limiter.mean_out) or FIRST_MEAN end

-- Attempts and tokens of this minute and the one before, for those who look.
local function count(limiter, tokens)
  local minute = math.floor(now / 60000)
  local known, key = tonumber(limiter.minute) or 0, key_of(limiter.name)
  if known ~= minute then
    local last = known == minute - 1
    redis.call('HSET', key, 'minute', minute, 'requests', 1, 'tokens', tokens,
      'requests_before', last and limiter.requests or 0, 'tokens_before', last and limiter.tokens or 0)
  else
    redis.call('HINCRBY', key, 'requests', 1)
    redis.call('HINCRBY', key, 'tokens', tokens)
  end
end

local step = {}

-- What a limiter allows; the newest configuration wins. limiter, then pairs of option, value
function step.configure(limiter)
  redis.call('HDEL', key_of(limiter), unpack(OPTIONS))
  if #ARGV > 3 then redis.call('HSET', key_of(limiter), unpack(ARGV, 4)) end
  return {}
end

-- Book one attempt, or say what is in the way. The attempt's id, model, who pays for a hedge ("" = it is none),
-- tokens of the input, of the answer at most ("" = unknown), µ$ a token of input and of output, lease_ms, and for how
-- many ms from now it may be booked ahead.
-- {"go", ms to wait, tokens, µ$, day, probe (0 or 1), key, mean answer, requests and tokens granted so far}
-- or {"no", what, ms to wait (0 = unknown), mean answer}
function step.acquire(id, model, payer, input, most_output, price_in, price_out, lease_ms, horizon_ms)
  local limiter = read('model:' .. model)
  local function no(what, wait) return { 'no', what, math.ceil(wait), text(mean(limiter)) } end

  local opens = tonumber(limiter.open_until)
  if opens then
    if now < opens then return no('breaker', opens - now) end
    -- Half open: one probe in the whole fleet, and a dead prober's lapses.
    local probing = tonumber(limiter.probe_until) or 0
    if payer ~= '' or (limiter.probe and limiter.probe ~= id and now < probing) then return no('breaker', probing - now) end
  end

  local output = tonumber(most_output) or mean(limiter)
  local tokens = math.ceil(tonumber(input) + output)
  local cost = input * price_in + output * price_out
  local day = math.floor(now / DAY)
  local usd = tonumber(limiter.day) == day and tonumber(limiter.usd) or 0
  if limiter.budget and usd + cost > tonumber(limiter.budget) then
    redis.call('HSET', key_of(limiter.name), 'spent_day', day)
    return no('budget', (day + 1) * DAY - now)
  end

  local held = tonumber(limiter.paused_until) or 0
  if held - now > SHORT then return no('paused', held - now) end
  if full(limiter.name, capacity(model), id) then return no('capacity', 0) end
  local provider = limiter.key and read('key:' .. limiter.key)
  if provider and full(provider.name, tonumber(provider.concurrency), id) then return no('key', 0) end

  local start, last = math.max(now_us, held * 1000), nil
  local taken = buckets(limiter, tokens)
  for _, bucket in ipairs(provider and buckets(provider, tokens) or {}) do taken[#taken + 1] = bucket end
  for _, bucket in ipairs(taken) do
    if bucket.due > start then start, last = bucket.due, bucket.option end
  end
  for kind, size in pairs({ r = 1, t = tokens }) do
    local left, till = left_of(limiter, kind)
    if left and left < size and till * 1000 > start then start, last = till * 1000, RATES[kind] end
  end
  local wait = math.ceil((start - now_us) / 1000)
  if wait > tonumber(horizon_ms) then return no(last or 'paused', wait) end

  if payer ~= '' then
    local saved = tonumber(redis.call('HGET', key_of('model:' .. payer), 'saved')) or 0
    if saved < 1 then return no('hedges', 0) end
    redis.call('HSET', key_of('model:' .. payer), 'saved', saved - 1)
  elseif limiter.hedge then
    redis.call('HSET', key_of(limiter.name), 'saved', math.min(MOST_SAVED, (tonumber(limiter.saved) or 0) + limiter.hedge))
  end
  for _, bucket in ipairs(taken) do
    -- Booked from the moment it starts: whoever is granted later can't slip in before.
    redis.call('HSET', key_of(bucket.limiter), bucket.kind, math.max(bucket.arrival, start) + bucket.cost)
  end
  local till = now + tonumber(lease_ms)
  redis.call('ZADD', running_of(limiter.name), till, id)
  if provider then
    redis.call('ZADD', running_of(provider.name), till, id)
    count(provider, tokens)
  end
  if opens then redis.call('HSET', key_of(limiter.name), 'probe', id, 'probe_until', till) end
  for kind, size in pairs({ r = 1, t = tokens }) do
    local left, till = left_of(limiter, kind)
    if left and start < till * 1000 then redis.call('HSET', key_of(limiter.name), 'left_' .. kind, left - size) end
  end
  local number, sum = (tonumber(limiter.n) or 0) + 1, (tonumber(limiter.tokens_n) or 0) + tokens
  redis.call('HSET', key_of(limiter.name), 'day', day, 'usd', usd + cost, 'n', number, 'tokens_n', text(sum))
  count(limiter, tokens)
  return { 'go', wait, tokens, text(cost), day, opens and 1 or 0, limiter.key or '', text(mean(limiter)), number, text(sum) }
end

local function slices(limiter)
  local found = {}
  for place = 0, SLICES - 1 do found[#found + 1] = limiter['b' .. place] end
  return found
end

local function clear(limiter)
  local key = key_of(limiter.name)
  redis.call('HDEL', key, 'open_until', 'open_for', 'why', 'probe', 'probe_until')
  for place = 0, SLICES - 1 do redis.call('HDEL', key, 'b' .. place) end
end

-- The longest deadline wins: what asks for an hour is not cut short by what asks for a second.
local function open(limiter, ms, why)
  local till = math.max(tonumber(limiter.open_until) or 0, now + ms)
  clear(limiter)
  redis.call('HSET', key_of(limiter.name), 'open_until', till, 'open_for', ms, 'why', why)
end

-- Count an attempt; too many bad ones among the last open the breaker.
local function judge(limiter, good)
  local rolling = tonumber(limiter.rolling)
  if not rolling then return end
  local slot = math.floor(now * SLICES / rolling)
  local good_ones, bad_ones, mine_good, mine_bad = 0, 0, 0, 0
  for _, slice in ipairs(slices(limiter)) do
    local at, well, badly = string.match(slice, '^(%d+):(%d+):(%d+)$')
    if slot - at < SLICES then
      good_ones, bad_ones = good_ones + well, bad_ones + badly
      if tonumber(at) == slot then mine_good, mine_bad = tonumber(well), tonumber(badly) end
    end
  end
  if good then mine_good = mine_good + 1 else mine_bad, bad_ones = mine_bad + 1, bad_ones + 1 end
  local slice = string.format('%.0f:%.0f:%.0f', slot, mine_good, mine_bad)
  redis.call('HSET', key_of(limiter.name), 'b' .. slot % SLICES, slice)
  local all = good_ones + bad_ones
  if not good and all >= tonumber(limiter.least) and bad_ones >= all * limiter.error_rate then
    open(limiter, tonumber(limiter.open_ms), 'errors')
  end
end

-- Move what was booked to what was used.
local function settle(limiter, tokens, used)
  local limit, arrival = limit_of(limiter, 't'), tonumber(limiter.t)
  if limit and arrival and used ~= tokens then
    limiter.t = arrival + (used - tokens) * pace('t', limit, window_of(limiter))
    redis.call('HSET', key_of(limiter.name), 't', limiter.t)
  end
  local left = left_of(limiter, 't')
  if left then redis.call('HSET', key_of(limiter.name), 'left_t', left + tokens - used) end
  if tonumber(limiter.minute) == math.floor(now / 60000) then
    redis.call('HINCRBY', key_of(limiter.name), 'tokens', used - tokens)
  end
end

-- What follows from what the provider says of requests or tokens: its limit a minute ("" = unknown, or another window),
-- how many are left, ms until all of them are there again; `later` were granted after the call that it speaks of, and it
-- may not have seen them. Fields and values are added to `facts`. It never loosens what is configured.
local function heed(facts, limiter, kind, most, left, reset_ms, later)
  local function note(field, value)
    limiter[field], facts[#facts + 1], facts[#facts + 2] = value, field, value
  end
  most, left, reset_ms = tonumber(most), tonumber(left), tonumber(reset_ms)
  if most then
    note('said_' .. kind, most)
    note('said_' .. kind .. '_until', now + HEARD)
  end
  if not left or not reset_ms then return end
  left = left - later
  if most then
    -- It fills evenly, as ours does: no more shall be in ours than there is in the provider's.
    local step, burst = pace(kind, limit_of(limiter, kind), window_of(limiter))
    local arrival = now_us + (burst - math.max(0, left)) * step
    if (tonumber(limiter[kind]) or 0) < arrival then note(kind, arrival) end
  else
    note('left_' .. kind, left)
    note('left_' .. kind .. '_until', now + math.min(reset_ms, HEARD))
  end
end

-- What an attempt tells of its model; `tasks.routing.model_statistics` is the same in Python, and says where it comes from.
local DECAY, SMOOTH, PREFILL = 10000, 0.1, 50
local function learn(limiter, outcome, took, waited, output)
  took, waited, output = tonumber(took), tonumber(waited), tonumber(output)
  if not took or outcome == 'unasked' then return end
  local facts = {}
  local function note(field, value) facts[#facts + 1], facts[#facts + 2] = field, text(value) end
  local lat = tonumber(limiter.lat)
  local bad = outcome == 'fault' or outcome == 'throttled' or outcome == 'unusable'
  if outcome == 'ok' then
    local usual = tonumber(limiter.mean_out) or output
    local sample = output and took * (usual + PREFILL) / (output + PREFILL) or took
    if lat and sample < lat then
      local w = math.exp(-(now - limiter.lat_at) / DECAY)
      sample = lat * w + sample * (1 - w)
    end
    note('lat', sample)
    note('lat_at', now)
    if output and output > 0 then
      local each = took / (output + PREFILL)
      note('tok_ms', (tonumber(limiter.tok_ms) or each) * (1 - SMOOTH) + each * SMOOTH)
    end
  elseif lat and took > lat and (bad or outcome == 'cancelled') then
    -- It had not answered by then: that much is known.
    note('lat', took)
    note('lat_at', now)
  end
  if outcome == 'ok' or outcome == 'neutral' then
    if limiter.faults then redis.call('HDEL', key_of(limiter.name), 'faults', 'fault_at') end
    note('err', (tonumber(limiter.err) or 0) * (1 - SMOOTH))
  elseif bad then
    note('faults', (tonumber(limiter.faults) or 0) + 1)
    note('fault_at', now)
    note('err', (tonumber(limiter.err) or 0) * (1 - SMOOTH) + SMOOTH)
  end
  if waited then note('qw', (tonumber(limiter.qw) or waited) * (1 - SMOOTH) + waited * SMOOTH) end
  if #facts > 0 then redis.call('HSET', key_of(limiter.name), unpack(facts)) end
end

-- An attempt has ended. Its id, model, key, outcome ("ok", "fault", "unusable", "throttled", "neutral", "cancelled",
-- or "unasked": granted, and then not needed), tokens booked and used, µ$ booked and spent, day of the booking, ms for
-- which the model shall be left alone (0 = nobody said), tokens of the answer ("" = none), error's code, ms that it took
-- ("" = it tells nothing), ms that it stood in the queue ("" = unknown). Then, where the provider told its limits:
-- requests and tokens granted when it was, and limit, left and reset of requests, of tokens.
-- Only the holder of a lease reports: a report that arrives twice counts once.
function step.release(id, model, key, outcome, tokens, used, cost, spent, day, hold_ms, output, why, took, waited,
    number, sum, most_r, left_r, reset_r, most_t, left_t, reset_t)
  local limiter = read('model:' .. model)
  local mine = redis.call('ZREM', running_of(limiter.name), id) == 1
  if key ~= '' then redis.call('ZREM', running_of('key:' .. key), id) end
  if not mine then return { 'late' } end
  tokens, used, hold_ms = tonumber(tokens), tonumber(used), tonumber(hold_ms)
  cost, spent = tonumber(cost), tonumber(spent)

  settle(limiter, tokens, used)
  if key ~= '' then settle(read('key:' .. key), tokens, used) end
  -- Answers overtake one another: what the latest request was told counts. One with a larger number than was granted
  -- is from before the server lost its memory.
  local granted = tonumber(limiter.n) or 0
  number = tonumber(number)
  if number and number >= (tonumber(limiter.heard_n) or 0) and number <= granted then
    local facts = { 'heard_n', number }
    heed(facts, limiter, 'r', most_r, left_r, reset_r, granted - number)
    heed(facts, limiter, 't', most_t, left_t, reset_t, math.max(0, (tonumber(limiter.tokens_n) or 0) - sum))
    redis.call('HSET', key_of(limiter.name), unpack(facts))
  end
  if limiter.day == day and spent ~= cost then
    redis.call('HSET', key_of(limiter.name), 'usd', math.max(0, limiter.usd + spent - cost))
    if spent < cost then redis.call('HDEL', key_of(limiter.name), 'spent_day') end
  end
  if output ~= '' then
    local old, all = tonumber(limiter.mean_out) or tonumber(output), tonumber(limiter.mean_tok) or used
    redis.call('HSET', key_of(limiter.name), 'mean_out', old + WEIGHT * (output - old),
      'mean_tok', all + WEIGHT * (used - all))
  end

  learn(limiter, outcome, took, waited, output)

  local probe = limiter.probe == id
  if outcome == 'unusable' then
    local twice = probe and 2 * (tonumber(limiter.open_for) or UNUSABLE) or tonumber(limiter.open_for) or UNUSABLE
    open(limiter, hold_ms > 0 and hold_ms or math.min(LONGEST, math.max(UNUSABLE, twice)), why)
  elseif outcome == 'ok' or outcome == 'neutral' then
    -- A request that the model refuses with reason shows that it serves, too.
    if probe then clear(limiter) elseif not limiter.open_until and outcome == 'ok' then judge(limiter, true) end
  elseif outcome == 'fault' then
    if probe then
      open(limiter, math.min(LONGEST, 2 * limiter.open_for), why)
    elseif not limiter.open_until then
      judge(limiter, false)
    end
  elseif probe then
    redis.call('HDEL', key_of(limiter.name), 'probe', 'probe_until')
  end
  if outcome ~= 'unusable' and hold_ms > 0 then
    redis.call('HSET', key_of(limiter.name), 'paused_until', math.max(tonumber(limiter.paused_until) or 0, now + hold_ms))
  end
  return { 'ok' }
end

-- Attempts run on: their leases last until now + lease_ms. model, key, lease_ms, ids…
function step.renew(model, key, lease_ms)
  local till, probe = now + tonumber(lease_ms), redis.call('HGET', key_of('model:' .. model), 'probe')
  for k = 6, #ARGV do
    redis.call('ZADD', running_of('model:' .. model), till, ARGV[k])
    if key ~= '' then redis.call('ZADD', running_of('key:' .. key), till, ARGV[k]) end
    if probe == ARGV[k] then redis.call('HSET', key_of('model:' .. model), 'probe_until', till) end
  end
  return {}
end

-- Forget leases that a renewal on the way brought back. model, key, ids…
function step.forget(model, key)
  redis.call('ZREM', running_of('model:' .. model), unpack(ARGV, 5))
  if key ~= '' then redis.call('ZREM', running_of('key:' .. key), unpack(ARGV, 5)) end
  return {}
end

-- Where limiters stand, for those who look: limiters… Returns eleven values for each: in flight, at most ("" = no limit),
-- breaker ("closed", "open", "half-open", "" for a key), ms until it half-opens, why, ms it is held, requests and
-- tokens of the last minute, µ$ of today, requests and tokens a minute at most ("" = no limit).
function step.states()
  local seen = {}
  for k = 3, #ARGV do
    local limiter = read(ARGV[k])
    local model = string.match(ARGV[k], '^model:(.*)$')
    local opens = tonumber(limiter.open_until)
    local state = opens and (now < opens and 'open' or 'half-open') or 'closed'
    local minute, part = math.floor(now / 60000), 1 - (now % 60000) / 60000
    local age = minute - (tonumber(limiter.minute) or 0)
    local function lately(name)
      local current, before = tonumber(limiter[name]) or 0, tonumber(limiter[name .. '_before']) or 0
      if age == 0 then return math.floor(current + before * part + 0.5) end
      return age == 1 and math.floor(current * part + 0.5) or 0
    end
    local most = model and capacity(model) or tonumber(limiter.concurrency)
    for _, value in ipairs({
      redis.call('ZCOUNT', running_of(ARGV[k]), now, '+inf'), most or '', model and state or '',
      opens and math.max(0, opens - now) or 0, limiter.why or '', math.max(0, (tonumber(limiter.paused_until) or 0) - now),
      lately('requests'), lately('tokens'),
      text(tonumber(limiter.day) == math.floor(now / DAY) and tonumber(limiter.usd) or 0),
      limit_of(limiter, 'r') or '', limit_of(limiter, 't') or '',
    }) do seen[#seen + 1] = value end
  end
  return seen
end

return step[ARGV[2]](unpack(ARGV, 3, 24))
