-- The record of a job: its keys, and how the steps read and write them.
--
--   KEYS  1 job      hash: state, spec, input, decision, counts, times (ms), spent and booked (USD), output, error.
--                    n parts are planned, `left` of them have not ended. They are sent in waves: `sent` parts were sent,
--                    `starts` are the first indices of the waves ("0,1000"). They are planned in stages
--                    ("plan:0:1,join:9:2": role, first index, count; sections and votes have no role and start at `base`)
--         2 parts    hash: "<index>:<field>" for state, model, title, owner, attempts, tried, lost, times, booked, record,
--                    spent and used (USD and tokens of the attempts before the last), moved ("<model>:<reason> …": where
--                    the part waited in vain) and job (the child job that does the part: such a part has no call, lease
--                    or queue)
--         3 outputs  hash: <index> -> the text that the model wrote; r<index> -> its thoughts, where the job keeps them
--         4 inputs   hash: <index> -> the text of a section (single jobs and votes read `input` instead);
--                    x<index> -> the rest of the part's spec: prompt, schema, seed, candidates;
--                    k<index> -> what cut answers have left, until the part ends
--         5 ballots  hash: normalized answer (digest) -> votes, or their weight
--
-- All keys carry the job's hash tag, so the script runs in one slot. It touches no key of the fleet.

local JOB, PARTS, OUTPUTS, INPUTS, BALLOTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }
local PART_FINAL = { succeeded = true, failed = true, skipped = true, cancelled = true }
-- In these states a job still needs the outputs of its parts.
local OPEN = { accepted = true, routed = true, waiting = true, running = true }

-- An absent field is false.
local function job(field) return redis.call('HGET', JOB, field) end
local function job_fields(...) return unpack(redis.call('HMGET', JOB, ...)) end
local function set_job(...) redis.call('HSET', JOB, ...) end
local function part(index, field) return redis.call('HGET', PARTS, index .. ':' .. field) end
local function part_fields(index, ...)
  local names = { ... }
  for k = 1, #names do names[k] = index .. ':' .. names[k] end
  return unpack(redis.call('HMGET', PARTS, unpack(names)))
end
local function set_part(index, ...)
  local fields = { ... }
  for k = 1, #fields, 2 do fields[k] = index .. ':' .. fields[k] end
  redis.call('HSET', PARTS, unpack(fields))
end

-- Announcements only shorten waiting: a client that misses one reads the record.
local function announce(word) redis.call('PUBLISH', JOB .. ':events', word) end

local function enter(state)
  if FINAL[state] then
    set_job('state', state, state .. '_at', now, 'ended_at', now)
    local keep = tonumber(job('keep_ms'))
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, keep) end
  else
    set_job('state', state, state .. '_at', now)
  end
  announce(state)
end

-- A part waits, or is queued, again. The job of a single call shows the state of its part.
local function show_part(index, state)
  if state == 'waiting' and job('kind') == 'single' then
    if job('state') ~= 'waiting' then enter('waiting') end
  else
    announce('part ' .. index .. ' ' .. state)
  end
end

local function count_of(list)
  if list == '' then return 0 end
  local _, commas = string.gsub(list, ',', '')
  return commas + 1
end

-- Replace what a part has booked of the job's budget by `usd`.
local function rebook(index, usd, booked)
  if not booked and usd == 0 then return end
  set_job('booked', math.max(0, (job('booked') or 0) - (booked or 0) + usd))
  set_part(index, 'booked', usd)
end

-- The run that ends asked no model: it is no attempt.
local function forget_attempt(index)
  if redis.call('HINCRBY', PARTS, index .. ':attempts', -1) <= 0 then
    redis.call('HDEL', PARTS, index .. ':first_at', index .. ':attempts')
  end
end
