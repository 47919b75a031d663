-- Leases of calls, presence of workers, and what the sweeper has to look at. Keys beside those of model_state.lua:
--
--   serving                  sorted set: "<process>|<model>"; score = until when that is known (ms)
--   active                   sorted set: jobs that have not ended; score = when the sweeper next looks at them (s)
--   deadlines                sorted set: jobs that have a deadline and may not have ended; score = the deadline (s)
--   leader:<role>            string: the holder of the role, for as long as the key lives

local PREFIX = 'pm:{fleet}:'
-- A model is dead when no worker has reported it for this long (ms): longer than a worker's restart and than the lease of
-- a running call; ten heartbeats may be missed.
local SILENT = 10000

-- -- leases ---------------------------------------------------------------------------------------------------------

-- Take or renew the leases of calls. kind: "single" or "part"; rest: calls
function step.lease(kind, model, lease_ms, rest)
  local key, lease_end = PREFIX .. kind .. ':' .. model, now + tonumber(lease_ms)
  for _, call in ipairs(rest) do
    redis.call('ZADD', key, lease_end, call)
    -- A part that was tried again came through the backlog, as single calls do: it has one lease, not two.
    if kind == 'part' then redis.call('ZREM', PREFIX .. 'single:' .. model, call) end
  end
end

-- ms until the lease of a call lapses; below zero without a lease
function step.lease_left(call, model)
  local lease_end = redis.call('ZSCORE', PREFIX .. 'single:' .. model, call)
    or redis.call('ZSCORE', PREFIX .. 'part:' .. model, call)
  return lease_end and tonumber(lease_end) - now or -1
end

-- End the leases of calls, and admit no others. rest: calls
function step.forget(model, rest)
  redis.call('ZREM', PREFIX .. 'single:' .. model, unpack(rest))
  redis.call('ZREM', PREFIX .. 'part:' .. model, unpack(rest))
end

-- Calls whose lease has lapsed, at most so many of a kind and model: call, model, … rest: models
function step.lapsed(most, rest)
  local found = {}
  for _, model in ipairs(rest) do
    for _, kind in ipairs({ 'single', 'part' }) do
      for _, call in ipairs(redis.call('ZRANGEBYSCORE', PREFIX .. kind .. ':' .. model, '-inf', now, 'LIMIT', 0, most)) do
        found[#found + 1], found[#found + 2] = call, model
      end
    end
  end
  return found
end

-- -- presence -------------------------------------------------------------------------------------------------------

-- Report the models that a worker process serves. rest: these, `count` of them; then the models that it no longer serves
function step.serve(process, count, rest)
  local serving = PREFIX .. 'serving'
  redis.call('ZREMRANGEBYSCORE', serving, '-inf', now)
  for k, model in ipairs(rest) do
    if k <= tonumber(count) then
      redis.call('ZADD', serving, now + SILENT, process .. '|' .. model)
      redis.call('HSET', PREFIX .. 'served', model, now + SILENT)
    else
      redis.call('ZREM', serving, process .. '|' .. model)
    end
  end
end

-- The processes and their models: "<process>|<model>", …
function step.serving() return redis.call('ZRANGE', PREFIX .. 'serving', now, '+inf', 'BYSCORE') end

-- Whether `name` has the role for the next ms: no other name has it then
function step.lead(role, name, ms)
  local key = PREFIX .. 'leader:' .. role
  local leader = redis.call('GET', key)
  if leader and leader ~= name then return 0 end
  redis.call('SET', key, name, 'PX', ms)
  return 1
end

-- -- jobs to look at ------------------------------------------------------------------------------------------------

local function schedule(key, rest)
  for k = 1, #rest, 2 do redis.call('ZADD', PREFIX .. key, now / 1000 + tonumber(rest[k]), rest[k + 1]) end
end

-- Have the sweeper look at jobs. rest: seconds from now, job, …
function step.watch(rest) schedule('active', rest) end

-- Jobs that are due for a look, the longest due first
function step.due(most)
  return redis.call('ZRANGE', PREFIX .. 'active', '-inf', now / 1000, 'BYSCORE', 'LIMIT', 0, most)
end

-- Note the deadlines of jobs. rest: seconds from now, job, …
function step.set_deadlines(rest) schedule('deadlines', rest) end

-- Jobs whose deadline comes within so many seconds, the earliest first: job, seconds left, …
function step.near_deadlines(seconds, most)
  local flat = redis.call('ZRANGE', PREFIX .. 'deadlines', '-inf', now / 1000 + tonumber(seconds), 'BYSCORE',
    'LIMIT', 0, most, 'WITHSCORES')
  for k = 2, #flat, 2 do flat[k] = string.format('%.3f', tonumber(flat[k]) - now / 1000) end
  return flat
end
