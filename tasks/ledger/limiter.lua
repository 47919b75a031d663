-- The limiter: what an attempt acquires before it starts, and releases when it has ended. Each is one step, decided and
-- booked at once, so no two workers take the same slot.
--
-- A limiter belongs to a model or to a provider's key; its name is "model:<model>" or "key:<key>". Fields of its hash:
--
--   configured:  key, rpm, tpm, concurrency, window (µs), budget (µ$ a day), hedge (hedges that a call earns);
--                of the breaker: error_rate, least (attempts), rolling (ms), open_ms
--   rates:       r, t             when the bucket of requests, of tokens is full again (µs): the arrival time of GCRA
--                paused_until     no attempt starts before (ms): the provider asked for a pause
--   provider:    said_r, said_t   limits a minute by the provider's headers, until said_r_until, said_t_until (ms)
--                left_r, left_t   requests and tokens left by the headers, until left_r_until, left_t_until (ms)
--                n, tokens_n      requests and tokens granted so far: they count those after the one that is answered
--                heard_n          the latest request whose headers were applied
--   breaker:     open_until, open_for (ms), why; probe, probe_until: the one attempt while it is half-open
--                b0 … b5          "<slot>:<good>:<bad>": attempts in six slices of the rolling window
--   budget:      day, usd         what was spent on that day (UTC), µ$; attempts in flight have bookings (booked:<name>)
--                spent_day        the day on which too little was left for a usual call
--   means:       mean_out, mean_tok   tokens of an answer, of a whole call
--   hedging:     saved            hedges that the calls of this model have earned
--   statistics:  lat, lat_at      peak EWMA of a call's time (ms), and when it last changed (ms)
--                faults, fault_at failures since the last answer, and the last of them (ms); err: their smoothed share
--                qw, tok_ms       ms in the model's queue and ms a token, smoothed; see tasks/routing/live.py
--   usage:       minute, requests, tokens, requests_before, tokens_before: of that minute, and of the one before

-- An unusable model stays closed for a minute, then twice as long each time, up to a quarter of an hour (ms).
local UNUSABLE, LONGEST_OPEN = 60000, 900000
local SLICES = 6
-- Tokens of an answer before any was seen, and the weight of a new answer in the means.
local FIRST_MEAN, MEAN_WEIGHT = 256, 0.05
-- Hedges that can be saved up: a burst of slow answers after a quiet day must not double the calls.
local MOST_SAVED = 5
-- The provider's headers count for this long (ms), unless the next answer repeats them.
local HEADERS_KEPT = 120000
-- Tokens of one attempt at most: a larger count is no count.
local MOST_TOKENS = 1e8
local OPTIONS = { 'key', 'rpm', 'tpm', 'concurrency', 'window', 'budget', 'hedge', 'error_rate', 'least', 'rolling',
  'open_ms' }

local function read_limiter(name)
  local flat, limiter = redis.call('HGETALL', limiter_key(name)), { name = name }
  for k = 1, #flat, 2 do limiter[flat[k]] = flat[k + 1] end
  return limiter
end

local function write(limiter, ...) redis.call('HSET', limiter_key(limiter.name), ...) end
local function text(number) return string.format('%.17g', number) end
local function mean_output(limiter) return tonumber(limiter.mean_out) or FIRST_MEAN end

-- Set what a limiter allows; the newest configuration wins. rest: option, value, …
function step.configure(name, rest)
  -- A larger budget opens the model again; the next attempt that is denied closes it.
  redis.call('HDEL', limiter_key(name), 'spent_day', unpack(OPTIONS))
  if #rest > 0 then redis.call('HSET', limiter_key(name), unpack(rest)) end
end

-- -- acquire --------------------------------------------------------------------------------------------------------

-- ms until the breaker may let an attempt through; nil where it does now
local function breaker_wait(limiter, id, is_hedge)
  local open_until = tonumber(limiter.open_until)
  if not open_until then return nil end
  if now < open_until then return open_until - now end
  -- Half-open: one probe in the whole fleet. The probe of a dead worker lapses.
  local probe_until = tonumber(limiter.probe_until) or 0
  local is_taken = limiter.probe and limiter.probe ~= id and now < probe_until
  return (is_hedge or is_taken) and math.max(0, probe_until - now) or nil
end

-- Whether `most` other attempts are in flight
local function is_full(limiter, most, id)
  if not most then return false end
  local key = running_key(limiter.name)
  drop_lapsed(limiter.name)
  return redis.call('ZCARD', key) >= most and not redis.call('ZSCORE', key, id)
end

-- Add the buckets of a limiter to `found`, each with what the attempt costs and when it may start there (µs)
local function add_buckets(found, limiter, tokens)
  for kind, option in pairs(RATES) do
    local limit = limit_of(limiter, kind)
    if limit then
      local interval, burst = pace(kind, limit, window_of(limiter))
      local size = kind == 'r' and 1 or tokens
      local arrival = tonumber(limiter[kind]) or 0
      -- A call larger than the burst waits until the bucket has been full for as long as the call overdraws it.
      found[#found + 1] = { limiter = limiter, kind = kind, option = option, arrival = arrival, cost = size * interval,
        due = arrival + (math.min(size, limit) - burst) * interval }
    end
  end
end

-- When an attempt may start (µs), and the option that delays it most (nil: none, or a pause)
local function earliest_start(limiter, buckets, sizes)
  local start, option = math.max(now_us, (tonumber(limiter.paused_until) or 0) * 1000), nil
  for _, bucket in ipairs(buckets) do
    if bucket.due > start then start, option = bucket.due, bucket.option end
  end
  for kind, size in pairs(sizes) do
    local left, left_until = left_of(limiter, kind)
    if left and left < size and left_until * 1000 > start then start, option = left_until * 1000, RATES[kind] end
  end
  return start, option
end

-- Count an attempt in the usage of this minute
local function count(limiter, tokens)
  local minute, key = math.floor(now / MINUTE_MS), limiter_key(limiter.name)
  local known = tonumber(limiter.minute) or 0
  if known == minute then
    redis.call('HINCRBY', key, 'requests', 1)
    redis.call('HINCRBY', key, 'tokens', tokens)
  else
    local last = known == minute - 1
    redis.call('HSET', key, 'minute', minute, 'requests', 1, 'tokens', tokens,
      'requests_before', last and limiter.requests or 0, 'tokens_before', last and limiter.tokens or 0)
  end
end

-- Pay for a hedge from what `payer` has saved, or earn a share of one; false where nothing is saved
local function pay_hedge(limiter, payer)
  if payer ~= '' then
    local key = limiter_key('model:' .. payer)
    local saved = tonumber(redis.call('HGET', key, 'saved')) or 0
    if saved < 1 then return false end
    redis.call('HSET', key, 'saved', saved - 1)
  elseif limiter.hedge then
    write(limiter, 'saved', math.min(MOST_SAVED, (tonumber(limiter.saved) or 0) + limiter.hedge))
  end
  return true
end

-- Acquire all that one attempt needs, or nothing. payer: the model whose calls pay for a hedge ("" = it is none);
-- input, most_output: tokens ("" = no bound on the answer: its mean counts); prices: µ$ a token; horizon_ms: an attempt
-- that may start within it is booked now, and waits in its slot.
-- Returns { "granted", ms to wait, tokens, µ$, is a probe (0, 1), key, mean answer, requests and tokens so far }
-- or { "denied", reason, ms to wait (0 = unknown), mean answer }.
function step.acquire(id, model, payer, input, most_output, input_price, output_price, lease_ms, horizon_ms)
  local limiter = read_limiter('model:' .. model)
  local function deny(reason, wait) return { 'denied', reason, math.ceil(wait), text(mean_output(limiter)) } end

  local blocked = breaker_wait(limiter, id, payer ~= '')
  if blocked then return deny('breaker', blocked) end

  local output = tonumber(most_output) or mean_output(limiter)
  local tokens = math.ceil(tonumber(input) + output)
  local cost = input * input_price + output * output_price
  local mean, size = mean_output(limiter), tonumber(limiter.mean_tok)
  local usual = size and math.max(0, size - mean) * input_price + mean * output_price or cost
  local problem, tomorrow = find_budget_denial(limiter, id, cost, usual)
  if problem then return deny(problem, tomorrow) end

  local pause = (tonumber(limiter.paused_until) or 0) - now
  if pause > PAUSE_IN_SLOT then return deny('paused', pause) end
  if is_full(limiter, capacity(model), id) then return deny('capacity', 0) end
  local provider = limiter.key and read_limiter('key:' .. limiter.key)
  if provider and is_full(provider, tonumber(provider.concurrency), id) then return deny('key', 0) end

  local buckets, sizes = {}, { r = 1, t = tokens }
  add_buckets(buckets, limiter, tokens)
  if provider then add_buckets(buckets, provider, tokens) end
  local start, option = earliest_start(limiter, buckets, sizes)
  local wait = math.ceil((start - now_us) / 1000)
  if wait > tonumber(horizon_ms) then return deny(option or 'paused', wait) end
  if not pay_hedge(limiter, payer) then return deny('hedges', 0) end

  local number, sum = (tonumber(limiter.n) or 0) + 1, text((tonumber(limiter.tokens_n) or 0) + tokens)
  local changes = { 'n', number, 'tokens_n', sum }
  for _, bucket in ipairs(buckets) do
    -- Booked from its start on, so that no later attempt slips in before it.
    local full = math.max(bucket.arrival, start) + bucket.cost
    if bucket.limiter == limiter then
      changes[#changes + 1], changes[#changes + 2] = bucket.kind, full
    else
      write(bucket.limiter, bucket.kind, full)
    end
  end
  for kind, size in pairs(sizes) do
    local left, left_until = left_of(limiter, kind)
    if left and start < left_until * 1000 then write(limiter, 'left_' .. kind, left - size) end
  end
  local lease_end, is_probe = now + tonumber(lease_ms), limiter.open_until and 1 or 0
  if is_probe == 1 then write(limiter, 'probe', id, 'probe_until', lease_end) end
  redis.call('ZADD', running_key(limiter.name), lease_end, id)
  if provider then
    redis.call('ZADD', running_key(provider.name), lease_end, id)
    count(provider, tokens)
  end
  if limiter.budget and cost > 0 then redis.call('HSET', booked_key(limiter.name), id, text(cost)) end
  write(limiter, unpack(changes))
  count(limiter, tokens)
  return { 'granted', wait, tokens, text(cost), is_probe, limiter.key or '', text(mean), number, sum }
end

-- -- release: the breaker -------------------------------------------------------------------------------------------

local function clear_breaker(limiter)
  local fields = { 'open_until', 'open_for', 'why', 'probe', 'probe_until' }
  for slice = 0, SLICES - 1 do fields[#fields + 1] = 'b' .. slice end
  redis.call('HDEL', limiter_key(limiter.name), unpack(fields))
end

-- The latest end wins: a failure that asks for an hour is not cut short by one that asks for a second.
local function open_breaker(limiter, ms, why)
  local open_until = math.max(tonumber(limiter.open_until) or 0, now + ms)
  clear_breaker(limiter)
  write(limiter, 'open_until', open_until, 'open_for', ms, 'why', why)
end

-- Count an attempt in the rolling window; open the breaker where too many of the window's attempts were bad.
local function judge(limiter, is_good)
  local rolling = tonumber(limiter.rolling)
  if not rolling then return end
  local slot = math.floor(now * SLICES / rolling)
  local good, bad, good_here, bad_here = 0, 0, 0, 0
  for slice = 0, SLICES - 1 do
    local at, well, badly = string.match(limiter['b' .. slice] or '', '^(%d+):(%d+):(%d+)$')
    if at and slot - at < SLICES then
      good, bad = good + well, bad + badly
      if tonumber(at) == slot then good_here, bad_here = tonumber(well), tonumber(badly) end
    end
  end
  if is_good then good_here = good_here + 1 else bad_here, bad = bad_here + 1, bad + 1 end
  write(limiter, 'b' .. slot % SLICES, string.format('%.0f:%.0f:%.0f', slot, good_here, bad_here))
  local all = good + bad
  if not is_good and all >= tonumber(limiter.least) and bad >= all * limiter.error_rate then
    open_breaker(limiter, tonumber(limiter.open_ms), 'errors')
  end
end

-- What the outcome of an attempt means for the breaker. pause_ms: how long the provider asked for.
local function move_breaker(limiter, id, outcome, pause_ms, why)
  local is_probe = limiter.probe == id
  if outcome == 'unusable' then
    local open_for = (tonumber(limiter.open_for) or UNUSABLE) * (is_probe and 2 or 1)
    open_breaker(limiter, pause_ms > 0 and pause_ms or math.min(LONGEST_OPEN, math.max(UNUSABLE, open_for)), why)
  elseif outcome == 'ok' or outcome == 'neutral' then
    -- A model that refuses a request with reason works.
    if is_probe then
      clear_breaker(limiter)
    elseif outcome == 'ok' and not limiter.open_until then
      judge(limiter, true)
    end
  elseif outcome == 'fault' then
    if is_probe then
      open_breaker(limiter, math.min(LONGEST_OPEN, 2 * limiter.open_for), why)
    elseif not limiter.open_until then
      judge(limiter, false)
    end
  elseif is_probe then
    redis.call('HDEL', limiter_key(limiter.name), 'probe', 'probe_until')
  end
end

-- -- release: tokens, headers, statistics ---------------------------------------------------------------------------

-- Replace the tokens that were booked by those that were used.
local function settle(limiter, booked, used)
  local limit, arrival = limit_of(limiter, 't'), tonumber(limiter.t)
  if limit and arrival and used ~= booked then
    limiter.t = arrival + (used - booked) * pace('t', limit, window_of(limiter))
    write(limiter, 't', limiter.t)
  end
  local left = left_of(limiter, 't')
  if left then write(limiter, 'left_t', left + booked - used) end
  if tonumber(limiter.minute) == math.floor(now / MINUTE_MS) then
    redis.call('HINCRBY', limiter_key(limiter.name), 'tokens', used - booked)
  end
end

-- Tighten a rate by the provider's headers; they never loosen what is configured. limit: a minute ("" = unknown, or of
-- another window); left; reset_ms: until all is there again; later: granted after the request that was answered, which
-- the provider may not have counted yet.
local function tighten(changes, limiter, kind, limit, left, reset_ms, later)
  local function change(field, value)
    limiter[field], changes[#changes + 1], changes[#changes + 2] = value, field, value
  end
  limit, left, reset_ms = tonumber(limit), tonumber(left), tonumber(reset_ms)
  if limit then
    change('said_' .. kind, limit)
    change('said_' .. kind .. '_until', now + HEADERS_KEPT)
  end
  if not left or not reset_ms then return end
  left = left - later
  if limit then
    -- The provider's bucket fills evenly, as this one does: this one must not hold more.
    local interval, burst = pace(kind, limit_of(limiter, kind), window_of(limiter))
    local arrival = now_us + (burst - math.max(0, left)) * interval
    if (tonumber(limiter[kind]) or 0) < arrival then change(kind, arrival) end
  else
    change('left_' .. kind, left)
    change('left_' .. kind .. '_until', now + math.min(reset_ms, HEADERS_KEPT))
  end
end

-- Update the statistics by which strategies choose. `tasks.routing.live` has the same formulas, with their sources.
local DECAY, SMOOTH, PREFILL = 10000, 0.1, 50
local function observe(limiter, outcome, took, waited, output)
  took, waited, output = measured(took), measured(waited), measured(output, MOST_TOKENS)
  if not took or outcome == 'unasked' then return end
  local changes = {}
  local function change(field, value) changes[#changes + 1], changes[#changes + 2] = field, value end
  local latency, errors = tonumber(limiter.lat), (tonumber(limiter.err) or 0) * (1 - SMOOTH)
  local is_bad = outcome == 'fault' or outcome == 'throttled' or outcome == 'unusable'
  if outcome == 'ok' then
    local usual = tonumber(limiter.mean_out) or output
    local sample = output and took * (usual + PREFILL) / (output + PREFILL) or took
    if latency and sample < latency then
      local weight = math.exp(-(now - limiter.lat_at) / DECAY)
      sample = latency * weight + sample * (1 - weight)
    end
    change('lat', sample)
    change('lat_at', now)
    if output and output > 0 then
      local each = took / (output + PREFILL)
      change('tok_ms', (tonumber(limiter.tok_ms) or each) * (1 - SMOOTH) + each * SMOOTH)
    end
  elseif latency and took > latency and (is_bad or outcome == 'cancelled') then
    -- It had not answered by then: a call takes at least as long.
    change('lat', took)
    change('lat_at', now)
  end
  if outcome == 'ok' or outcome == 'neutral' then
    if limiter.faults then redis.call('HDEL', limiter_key(limiter.name), 'faults', 'fault_at') end
    change('err', errors)
  elseif is_bad then
    change('faults', (tonumber(limiter.faults) or 0) + 1)
    change('fault_at', now)
    change('err', errors + SMOOTH)
  end
  if waited then change('qw', (tonumber(limiter.qw) or waited) * (1 - SMOOTH) + waited * SMOOTH) end
  if #changes > 0 then write(limiter, unpack(changes)) end
end

-- Release an attempt that has ended, and learn from it. outcome: "ok", "fault", "unusable", "throttled", "neutral",
-- "cancelled", or "unasked" (granted, and not sent); booked, used: tokens; cost, spent: µ$ booked and spent;
-- pause_ms: for how long the provider asked (0 = it did not); output: tokens of the answer ("" = none); why: code of the error;
-- took_ms ("" = it says nothing of the model), waited_ms in the queue ("" = unknown).
-- Then the provider's headers ("" = none): number, sum: requests and tokens granted up to this attempt; limit, left and
-- reset of requests (_r) and of tokens (_t).
-- Only the holder of a lease releases: a release that arrives twice counts once, and the second returns "late".
function step.release(id, model, key, outcome, booked, used, cost, spent, pause_ms, output, why, took_ms, waited_ms,
    number, sum, limit_r, left_r, reset_r, limit_t, left_t, reset_t)
  local limiter = read_limiter('model:' .. model)
  local is_holder = redis.call('ZREM', running_key(limiter.name), id) == 1
  if key ~= '' then redis.call('ZREM', running_key('key:' .. key), id) end
  redis.call('HDEL', booked_key(limiter.name), id)
  if not is_holder then return 'late' end
  -- A figure that is none counts as what was booked.
  booked, pause_ms = tonumber(booked), measured(pause_ms) or 0
  used, spent = math.floor(measured(used, MOST_TOKENS) or booked), measured(spent) or tonumber(cost)
  output = measured(output, MOST_TOKENS)

  settle(limiter, booked, used)
  if key ~= '' then settle(read_limiter('key:' .. key), booked, used) end
  -- Answers overtake one another: the headers of the latest request count. A number larger than what was granted comes
  -- from before the server lost its memory.
  local granted = tonumber(limiter.n) or 0
  number = tonumber(number)
  if number and number >= (tonumber(limiter.heard_n) or 0) and number <= granted then
    local changes = { 'heard_n', number }
    tighten(changes, limiter, 'r', limit_r, left_r, reset_r, granted - number)
    tighten(changes, limiter, 't', limit_t, left_t, reset_t, math.max(0, (tonumber(limiter.tokens_n) or 0) - sum))
    write(limiter, unpack(changes))
  end
  if spent > 0 then write(limiter, 'day', math.floor(now / DAY_MS), 'usd', text(spent_today(limiter) + spent)) end
  if output then
    local answer, all = tonumber(limiter.mean_out) or output, tonumber(limiter.mean_tok) or used
    write(limiter, 'mean_out', answer + MEAN_WEIGHT * (output - answer), 'mean_tok', all + MEAN_WEIGHT * (used - all))
  end
  observe(limiter, outcome, took_ms, waited_ms, output)
  move_breaker(limiter, id, outcome, pause_ms, why)
  if outcome ~= 'unusable' and pause_ms > 0 then
    write(limiter, 'paused_until', math.max(tonumber(limiter.paused_until) or 0, now + pause_ms))
  end
  return 'ok'
end

-- -- leases ---------------------------------------------------------------------------------------------------------

-- Renew the leases of attempts that run on. rest: ids
function step.renew(model, key, lease_ms, rest)
  local lease_end, probe = now + tonumber(lease_ms), redis.call('HGET', limiter_key('model:' .. model), 'probe')
  for _, id in ipairs(rest) do
    redis.call('ZADD', running_key('model:' .. model), lease_end, id)
    if key ~= '' then redis.call('ZADD', running_key('key:' .. key), lease_end, id) end
    if probe == id then redis.call('HSET', limiter_key('model:' .. model), 'probe_until', lease_end) end
  end
end

-- Forget leases that a late renewal brought back. rest: ids
function step.forget(model, key, rest)
  redis.call('ZREM', running_key('model:' .. model), unpack(rest))
  redis.call('HDEL', booked_key('model:' .. model), unpack(rest))
  if key ~= '' then redis.call('ZREM', running_key('key:' .. key), unpack(rest)) end
end
