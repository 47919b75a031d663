-- The state of models and limiters, as admission.lua, limiter.lua and snapshot.lua read it.
--
-- All keys of the fleet carry the tag {fleet}; these scripts touch nothing of a job. Their keys, after the prefix:
--
--   configured               hash: model -> capacity as configured
--   scaled                   hash: model -> capacity as an operator set it
--   single:<model>           sorted set: single calls queued or running there; score = end of the lease (ms)
--   part:<model>             the same for the parts of fan-outs
--   drained                  hash: model -> 1, or "move": an operator takes it out
--   served                   hash: model -> until when its workers are taken to be alive (ms)
--   limiter:<name>           hash: the limiter of "model:<model>" or "key:<key>", see limiter.lua
--   running:<name>           sorted set: attempts in flight there; score = end of the lease (ms)
--   booked:<name>            hash: attempt in flight -> µ$ that it may cost, of a model with a budget of the day
--
-- What is in flight is a lease: it lapses with its worker, so no counter can drift.

local PREFIX = 'pm:{fleet}:'
local now_us = clock[1] * 1000000 + clock[2]
local MINUTE_US, MINUTE_MS, DAY_MS = 60000000, 60000, 86400000

-- Pauses of a provider (ms): up to the first, an attempt waits in its slot; up to the second, the model stays open.
local PAUSE_IN_SLOT, SHORT_PAUSE = 500, 5000
-- A call that stands in a queue for long has its lease renewed by the sweeper, which has this long (ms) for it.
local SWEEP = 1500

local function limiter_key(name) return PREFIX .. 'limiter:' .. name end
local function running_key(name) return PREFIX .. 'running:' .. name end
local function booked_key(name) return PREFIX .. 'booked:' .. name end

-- The capacity of a model; nil where it has none
local function capacity(model)
  local scaled = redis.call('HGET', PREFIX .. 'scaled', model)
  return tonumber(scaled or redis.call('HGET', PREFIX .. 'configured', model) or nil)
end

-- Calls in flight, of a kind ("single" or "part"). Lapsed leases are no load, although their calls keep their slots in
-- the queue until the sweeper has looked at them.
local function in_flight(kind, model)
  return redis.call('ZCOUNT', PREFIX .. kind .. ':' .. model, now - SWEEP, '+inf')
end

-- Why no call is sent to a model now: "dead", "drained", "breaker", "budget" or "paused"; false where it is open.
-- The limiter has at least open_until, spent_day and paused_until.
local function closed_reason(model, limiter)
  local served_until = tonumber(redis.call('HGET', PREFIX .. 'served', model))
  return served_until and now > served_until and 'dead'
    or redis.call('HEXISTS', PREFIX .. 'drained', model) == 1 and 'drained'
    or limiter.open_until and now < tonumber(limiter.open_until) and 'breaker'
    or tonumber(limiter.spent_day) == math.floor(now / DAY_MS) and 'budget'
    or (tonumber(limiter.paused_until) or 0) - now > SHORT_PAUSE and 'paused'
end

-- The two kinds of rate, and the options that limit them: requests and tokens a minute.
local RATES = { r = 'rpm', t = 'tpm' }
local SAID, LEFT = { r = 'said_r', t = 'said_t' }, { r = 'left_r', t = 'left_t' }
-- This share of a limit may start at once. The rest comes at an even pace.
local BURST = { r = 0.04, t = 0.10 }

-- GCRA (ATM Forum, TM 4.0): a bucket of `burst` that refills by one every `interval` µs. No window holds more than
-- `limit`: it has burst + (limit - burst + 1) intervals, of which the last ends outside. Intervals are rounded up to
-- quarters of a µs, which a double holds exactly at today's dates: sums of them never drift.
local function pace(kind, limit, window)
  local burst = math.max(1, math.floor(limit * BURST[kind]))
  return math.ceil(4 * window / (limit - burst + 1)) / 4, burst
end

local function window_of(limiter) return tonumber(limiter.window) or MINUTE_US end

-- The limit in force: the configured one, or the provider's where that is lower; nil without either
local function limit_of(limiter, kind)
  local limit, said = tonumber(limiter[RATES[kind]]), tonumber(limiter[SAID[kind]])
  if said and now < tonumber(limiter[SAID[kind] .. '_until']) and (not limit or said < limit) then return said end
  return limit
end

-- What is left by the provider's headers, and until when that counts (ms); nil where they said nothing
local function left_of(limiter, kind)
  local left = tonumber(limiter[LEFT[kind]])
  local left_until = left and tonumber(limiter[LEFT[kind] .. '_until'])
  if left_until and now < left_until then return left, left_until end
end
