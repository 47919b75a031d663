-- The only thing that moves a job. One call, one step of the state machine in docs/reference/job.md.
--
--   KEYS  1 job      hash: state, spec, input, decision, counts, times (ms), spent and booked (USD), output, error
--                        n parts are planned, `left` of them have not ended. They come in waves: `sent` parts were sent,
--                        `starts` are the first indices of the waves ("0,1000"). And in stages ("plan:0:1,join:9:2": role,
--                        first, count; without a role are the sections and votes themselves, from `base` on).
--         2 parts    hash: "<i>:<field>" for state, model, title, owner, attempts, tried, lost, times, booked, record,
--                        moved ("<model>:<why> …": where it stood in vain), and USD spent by attempts before the last;
--                        job: the one that is the part's work. Such a part has no call, no lease and no queue.
--         3 outputs  hash: <i> -> the text that the model wrote
--         4 inputs   hash: <i> -> the text of a section (single jobs and votes read `input` instead); x<i> -> what the
--                        call has of its own beside that: prompt, schema, seed, models
--         5 ballots  hash: normalized answer (digest) -> votes, or their weight
--   ARGV  1 the step, then its arguments
--
-- All keys carry the job's hash tag, so the script runs in one slot. Nothing of the fleet is touched here.
-- Lists of arguments are read from ARGV: Lua can't unpack the thousands that a large fan-out has.
-- Time is the server's: clocks of workers may differ. Every reply is an array that starts with a word.

local JOB, PARTS, OUTPUTS, INPUTS, BALLOTS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true }
local PART_FINAL = { succeeded = true, failed = true, skipped = true, cancelled = true }
-- A job in these states still wants the outputs of its parts.
local OPEN = { accepted = true, routed = true, waiting = true, running = true }

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function job(field) return redis.call('HGET', JOB, field) end
local function part(i, field) return redis.call('HGET', PARTS, i .. ':' .. field) end
local function set_part(i, field, value) redis.call('HSET', PARTS, i .. ':' .. field, value) end

-- Announcements only speed waiting up; whoever waits reads the record.
local function announce(word) redis.call('PUBLISH', JOB .. ':events', word) end

local function enter(state)
  redis.call('HSET', JOB, 'state', state, state .. '_at', now)
  if FINAL[state] then
    redis.call('HSET', JOB, 'ended_at', now)
    local keep = tonumber(job('keep_ms'))
    for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, keep) end
  end
  announce(state)
end

local step = {}

-- spec, input, kind, policy, quorum (0 = none), parent ("" = none), priority, deadline_ms from now ("" = none), keep_ms,
-- mark. The mark is the same for two submissions of one request: an id that is taken by another is told as such.
function step.accept(spec, input, kind, policy, quorum, parent, priority, deadline_ms, keep_ms, mark)
  local state = job('state')
  if state then return { job('mark') == mark and 'exists' or 'taken', state } end
  redis.call('HSET', JOB, 'mark', mark, 'spec', spec, 'input', input, 'kind', kind, 'policy', policy,
    'quorum', quorum, 'priority', priority, 'keep_ms', keep_ms, 'failed', 0, 'joins', 0)
  if parent ~= '' then redis.call('HSET', JOB, 'parent', parent) end
  if deadline_ms ~= '' then redis.call('HSET', JOB, 'deadline_at', now + tonumber(deadline_ms)) end
  enter('accepted')
  return { 'accepted' }
end

-- decision; for a single job also where its call stands ("queued" or "waiting") and on which model
function step.route(decision, placed, model)
  local state = job('state')
  if not state then return { 'gone' } end
  if state ~= 'accepted' and state ~= 'routed' and state ~= 'waiting' then return { 'over', state } end
  if not placed or placed == '' then
    redis.call('HSET', JOB, 'decision', decision)
    enter('routed')
    return { 'routed' }
  end
  -- The feeder may have been quicker, and another router too: a call that stands in a queue stays there.
  local stood = part(0, 'state')
  local queued = stood and stood ~= 'waiting'
  if queued and job('decision') then return { 'routed' } end
  redis.call('HSET', JOB, 'decision', decision, 'n', 1, 'left', 1)
  if not queued then
    set_part(0, 'state', placed)
    set_part(0, 'queued_at', now)
    if model ~= '' then set_part(0, 'model', model) end
  end
  enter((queued or placed == 'queued') and 'routed' or 'waiting')
  return { 'routed' }
end

-- What is told of a part: model, title, section, what its call has of its own, the job that is its work, why it has failed
-- already. The last four may be "".
local TOLD = 6

-- Write parts from index `first` on, told in ARGV from place `at` on. Nobody sees them before they are planned.
local function write(first, at)
  for place = 0, (#ARGV - at + 1) / TOLD - 1 do
    local i, k = first + place, at + TOLD * place
    local fields = { i .. ':state', ARGV[k + 5] == '' and 'waiting' or 'failed', i .. ':model', ARGV[k] }
    local function add(field, value)
      fields[#fields + 1] = i .. ':' .. field
      fields[#fields + 1] = value
    end
    if ARGV[k + 1] ~= '' then add('title', ARGV[k + 1]) end
    if ARGV[k + 4] ~= '' then
      add('job', ARGV[k + 4])
      add('owner', ARGV[k + 4])
      redis.call('HSET', JOB, 'children', 1)
    end
    if ARGV[k + 5] ~= '' then add('record', cjson.encode({ error = ARGV[k + 5] })) end
    redis.call('HSET', PARTS, unpack(fields))
    if ARGV[k + 2] ~= '' then redis.call('HSET', INPUTS, i, ARGV[k + 2]) end
    if ARGV[k + 3] ~= '' then redis.call('HSET', INPUTS, 'x' .. i, ARGV[k + 3]) end
  end
end

local function count_of(list) local _, commas = string.gsub(list, ',', '') return list == '' and 0 or commas + 1 end

-- Send up to `size` of the parts that wait for their wave. Returns the wave's number, its first part and their count.
-- One that has failed already ends here, with its wave: so a wave has ended when no more parts are left than were not sent.
local function send(size)
  local first, n, starts = tonumber(job('sent')), tonumber(job('n')), job('starts')
  local count = math.min(tonumber(size), n - first)
  local runs, failed = false, 0
  for i = first, first + count - 1 do
    local stood = part(i, 'state')
    if stood == 'waiting' then
      local child = part(i, 'job')
      runs = runs or child
      redis.call('HSET', PARTS, i .. ':state', child and 'running' or 'queued', i .. ':queued_at', now)
    elseif stood == 'failed' and not part(i, 'ended_at') then
      set_part(i, 'ended_at', now)
      failed = failed + 1
    end
  end
  if failed > 0 then
    redis.call('HINCRBY', JOB, 'left', -failed)
    if job('asking') ~= '1' then redis.call('HINCRBY', JOB, 'failed', failed) end
  end
  if runs and job('state') == 'routed' then enter('running') end
  redis.call('HSET', JOB, 'sent', first + count, 'starts', starts == '' and tostring(first) or starts .. ',' .. first)
  return { 'ok', count_of(starts), first, count }
end

-- The parts from `first` on, `count` of them, are what the job works on now.
local function stage(role, first, count, stopping)
  local stages = job('stages')
  if role ~= '' or stages then
    local entry = role .. ':' .. first .. ':' .. count
    redis.call('HSET', JOB, 'stages', stages and stages .. ',' .. entry or entry)
  end
  redis.call('HSET', JOB, 'n', first + count, 'left', count, 'asking', role == '' and 0 or 1)
  if role == '' then redis.call('HSET', JOB, 'base', first, 'failed', 0, 'stopping', stopping) end
end

-- Why no parts may be planned from index `first` on: nil where they may. A job that joins may plan more.
local function unplannable(first)
  local state = job('state')
  if not state then return { 'gone' } end
  if FINAL[state] then return { 'over', state } end
  if tonumber(job('n') or 0) > first then return { 'planned' } end
  if not OPEN[state] and not (first > 0 and state == 'joining') then return { 'over', state } end
  return nil
end

-- first, then parts: those of a plan that is too large for one step. What was planned stays as it is; and of a job that
-- has ended nothing is written, since its keys were told when to go, and a new one would stay for ever.
function step.write(first)
  first = tonumber(first)
  local why = unplannable(first)
  if why then return why end
  write(first, 3)
  return { 'ok' }
end

-- decision, role, first, count, size of the first wave, when to stop (JSON or ""), whether the parts hold all of the job's
-- input (1: it is not kept twice), then those parts that were not written before. Parts are planned once.
function step.plan(decision, role, first, count, wave, stopping, whole)
  first, count = tonumber(first), tonumber(count)
  local why, state = unplannable(first), job('state')
  if why then return why end
  write(first, 9)
  if whole == '1' then redis.call('HSET', JOB, 'input', '') end
  if decision ~= '' then redis.call('HSET', JOB, 'decision', decision) end
  if first == 0 then redis.call('HSET', JOB, 'sent', 0, 'starts', '') end
  stage(role, first, count, stopping)
  local sent = send(wave)
  if state == 'joining' then
    redis.call('HSET', JOB, 'joins', 0)
    enter('running')
  end
  announce('planned')
  return sent
end

-- the number of the wave to be sent and its size: ok, its first part and their count, or sent before
function step.send(wave, size)
  local state = job('state')
  if not state or not OPEN[state] or not job('starts') then return { 'over' } end
  if count_of(job('starts')) ~= tonumber(wave) or tonumber(job('sent')) >= tonumber(job('n')) then return { 'sent' } end
  return send(size)
end

-- pairs of index, model: these calls now stand in the queue of that model
function step.queue()
  local state = job('state')
  if not state or not OPEN[state] then return { 'over' } end
  for k = 2, #ARGV, 2 do
    local i, model = ARGV[k], ARGV[k + 1]
    local stood = part(i, 'state')
    -- Not there yet: the feeder was quicker than the router, which is about to write down that the call waits.
    local early = not stood and job('kind') == 'single'
    if early then set_part(i, 'queued_at', now) end
    if early or stood == 'waiting' then
      set_part(i, 'state', 'queued')
      set_part(i, 'model', model)
    end
  end
  if state == 'waiting' then enter('routed') end
  return { 'ok' }
end

-- A call that just started may not have shown up among the leases yet: its owner counts as alive for a lease's time.
local function just_started(i, lease_ms) return now - tonumber(part(i, 'started_at')) < tonumber(lease_ms) end

-- index, owner, the dead owner from whom the part may be taken ("" = none), lease_ms, the model at whose queue the message
-- was delivered ("" = unknown)
function step.claim(i, owner, from, lease_ms, at)
  local state, stood, decision = job('state'), part(i, 'state'), job('decision')
  -- Without a decision the call was admitted by another before its router came to write: the sweeper sends it again.
  if not state or not stood or not decision then return { 'gone' } end
  if PART_FINAL[stood] then return { 'done', stood } end
  if not OPEN[state] then
    set_part(i, 'state', 'skipped')
    return { 'done', 'skipped' }
  end
  -- A message that is out of date: the call went elsewhere, and has another there, or will have when it is admitted.
  if at ~= '' and (stood == 'waiting' or part(i, 'model') ~= at) then
    return { 'elsewhere', stood == 'waiting' and '' or part(i, 'model') or '' }
  end
  local holder = part(i, 'owner') or ''
  if stood == 'running' and holder ~= owner and (holder ~= from or just_started(i, lease_ms)) then
    return { 'busy', holder }
  end
  -- The same owner asks twice when the first reply was lost on the way: that is one attempt.
  local attempts = redis.call('HINCRBY', PARTS, i .. ':attempts', holder == owner and 0 or 1)
  set_part(i, 'state', 'running')
  set_part(i, 'owner', owner)
  set_part(i, 'started_at', now)
  redis.call('HSETNX', PARTS, i .. ':first_at', now)
  if state ~= 'running' then enter('running') else announce('part ' .. i .. ' running') end
  return { 'go', attempts, part(i, 'model'), job('spec'), redis.call('HGET', INPUTS, i) or job('input'),
    decision, part(i, 'title') or '', part(i, 'queued_at') or now, now, job('accepted_at'), part(i, 'tried') or '[]',
    part(i, 'first_at'), redis.call('HGET', INPUTS, 'x' .. i) or '', job('n') or '1', job('base') or '0' }
end

-- What a part has booked of the job's budget becomes `usd`.
local function rebook(i, usd)
  redis.call('HSET', JOB, 'booked', math.max(0, (job('booked') or 0) - (part(i, 'booked') or 0) + usd))
  set_part(i, 'booked', usd)
end

-- index, owner, USD of the next call, the job's budget: ok, or broke with what is left of it
function step.book(i, owner, usd, budget)
  if part(i, 'owner') ~= owner or PART_FINAL[part(i, 'state')] then return { 'stale' } end
  local left = budget - (job('spent') or 0) - (job('booked') or 0) + (part(i, 'booked') or 0)
  if tonumber(usd) > left then return { 'broke', string.format('%.9f', math.max(0, left)) } end
  rebook(i, tonumber(usd))
  return { 'ok' }
end

-- So many have succeeded that the policy quorum holds, whatever becomes of the rest.
local function quorate()
  local all = tonumber(job('n')) - tonumber(job('base') or 0)
  return all - tonumber(job('left')) - tonumber(job('failed')) >= tonumber(job('quorum'))
end

-- Do the votes that are in decide it? The rule of `tasks/parallel/early_stop.py`; a test compares the two.
local function decided(rule, left)
  if rule.flag then
    local flagged = tonumber(redis.call('HGET', BALLOTS, rule.flag) or 0)
    -- As long as nobody has said anything it can't be cleared: nothing but failures is no verdict.
    return flagged >= rule.k or (flagged + left < rule.k and redis.call('HLEN', BALLOTS) > 0)
  end
  local first, second = 0, 0
  for _, votes in ipairs(redis.call('HVALS', BALLOTS)) do
    votes = tonumber(votes)
    if votes > first then first, second = votes, first elseif votes > second then second = votes end
  end
  -- Strictly more than the runner-up can still reach: a tie would be broken by order, so it is no decision.
  if rule.exact and first > second + left * rule.heaviest + 1e-9 then return true end
  local enough = rule.enough and rule.enough[second + 1]
  return enough ~= nil and first >= enough
end

-- Is there nothing more to wait for? A vote that is decided, a part that spoils the job, the last one.
local function complete()
  local left = tonumber(job('left'))
  if left == 0 then return 'all' end
  -- What a join asks for is its own affair: it needs every answer, and knows what to make of a failure.
  if job('asking') == '1' then return nil end
  if job('policy') == 'fail' and tonumber(job('failed')) > 0 then return 'spoilt' end
  local stopping = job('stopping')
  if stopping and stopping ~= '' and decided(cjson.decode(stopping), left) and quorate() then return 'decided' end
  return nil
end

-- index, owner, "succeeded", "failed" or "skipped", output, record (JSON), ballot ("" = none), what it weighs, USD spent by
-- the last attempt, the model that answered ("" = the one that was claimed), whether the job that was to be its work never
-- came to be (1)
function step.finish(i, owner, verdict, output, record, ballot, weight, usd, model, never_created)
  local state, stood = job('state'), part(i, 'state')
  if not state or not stood or not job('n') then return { 'gone' } end
  if PART_FINAL[stood] then return { 'final', stood } end
  if not OPEN[state] then
    set_part(i, 'state', 'cancelled')
    set_part(i, 'record', record)
    return { 'over', state }
  end
  -- A call that lost its part to another may still bring an answer (the first one counts), never a failure.
  if verdict ~= 'succeeded' and part(i, 'owner') ~= owner then return { 'stale' } end
  set_part(i, 'state', verdict)
  set_part(i, 'record', record)
  if never_created == '1' then redis.call('HDEL', PARTS, i .. ':job') end
  set_part(i, 'ended_at', now)
  if model and model ~= '' then set_part(i, 'model', model) end
  if part(i, 'booked') then rebook(i, 0) end
  if tonumber(usd) > 0 then redis.call('HINCRBYFLOAT', JOB, 'spent', usd) end
  if verdict == 'succeeded' then redis.call('HSET', OUTPUTS, i, output) end
  redis.call('HINCRBY', JOB, 'left', -1)
  if verdict == 'failed' and job('asking') ~= '1' then redis.call('HINCRBY', JOB, 'failed', 1) end
  if ballot ~= '' then redis.call('HINCRBYFLOAT', BALLOTS, ballot, weight) end
  if job('kind') == 'single' then
    if verdict == 'failed' then redis.call('HSET', JOB, 'error', output) end
    enter(verdict)
    return { 'ended', verdict }
  end
  announce('part ' .. i .. ' ' .. verdict)
  local why = complete()
  return why and { 'complete', why } or { 'more' }
end

-- index, owner, problem, who was tried (JSON), whether it counts (0: it was never asked, it waits for a limit),
-- USD spent: the attempt shall be made again
function step.retry(i, owner, problem, tried, counts, usd)
  local state, stood = job('state'), part(i, 'state')
  if part(i, 'owner') ~= owner then return { 'stale' } end
  -- The same owner asks twice when the first reply was lost on the way.
  if stood == 'waiting' then return { 'ok' } end
  if stood ~= 'running' then return { 'stale' } end
  if not OPEN[state] then
    set_part(i, 'state', 'cancelled')
    return { 'over', state }
  end
  set_part(i, 'state', 'waiting')
  set_part(i, 'problem', problem)
  set_part(i, 'tried', tried)
  if part(i, 'booked') then rebook(i, 0) end
  if tonumber(usd) > 0 then
    redis.call('HINCRBYFLOAT', JOB, 'spent', usd)
    redis.call('HINCRBYFLOAT', PARTS, i .. ':spent', usd)
  end
  if counts == '0' and redis.call('HINCRBY', PARTS, i .. ':attempts', -1) == 0 then
    redis.call('HDEL', PARTS, i .. ':first_at')
  end
  set_part(i, 'queued_at', now)
  if job('kind') == 'single' then enter('waiting') else announce('part ' .. i .. ' waiting') end
  return { 'ok' }
end

-- index, its state ("queued" or "waiting"), the model that it stands at, why, how often a part may move: it shall wait for
-- another model
function step.move(i, where, from, why, most)
  local state, stood, moved = job('state'), part(i, 'state'), part(i, 'moved')
  if not state or not stood then return { 'gone' } end
  if PART_FINAL[stood] or not OPEN[state] then return { 'final' } end
  if stood ~= where or (stood == 'queued' and part(i, 'model') ~= from) then return { 'stale' } end
  local _, times = string.gsub(moved or '', '[^ ]+', '')
  if times >= tonumber(most) then return { 'spent' } end
  set_part(i, 'moved', (moved and moved .. ' ' or '') .. from .. ':' .. why)
  set_part(i, 'state', 'waiting')
  set_part(i, 'queued_at', now)
  if job('kind') == 'single' then
    if state ~= 'waiting' then enter('waiting') end
  else
    announce('part ' .. i .. ' waiting')
  end
  return { 'ok' }
end

-- index, the dead owner ("" = the part was never claimed), how often a part may lose its worker, lease_ms
function step.requeue(i, owner, most, lease_ms)
  local state, stood = job('state'), part(i, 'state')
  if not state or not stood then return { 'gone' } end
  if PART_FINAL[stood] or not OPEN[state] then return { 'final' } end
  if stood == 'running' then
    if part(i, 'owner') ~= owner or just_started(i, lease_ms) then return { 'stale' } end
    if redis.call('HINCRBY', PARTS, i .. ':lost', 1) >= tonumber(most) then return { 'poison' } end
  end
  set_part(i, 'state', 'queued')
  announce('part ' .. i .. ' queued')
  return { 'ok', part(i, 'model') or '' }
end

-- index, owner: its worker ends before the call did, and hands it back; the message goes back to the broker
function step.hand_back(i, owner)
  if part(i, 'state') ~= 'running' or part(i, 'owner') ~= owner or not OPEN[job('state')] then return { 'stale' } end
  set_part(i, 'state', 'queued')
  set_part(i, 'owner', '')
  set_part(i, 'queued_at', now)
  announce('part ' .. i .. ' queued')
  return { 'ok' }
end

-- lease_ms, how often a join may be started, whether what is in decides it (1; no part may be under way then): whoever gets
-- "go" joins, and has lease_ms to conclude. "wait" tells how many parts have not ended, how many there are, how many of
-- them were sent, and in how many waves
function step.join(lease_ms, most, decides)
  local state = job('state')
  if not state then return { 'gone' } end
  if FINAL[state] then return { 'done', state } end
  if state == 'joining' then
    if now - tonumber(job('joining_at')) < tonumber(lease_ms) then return { 'busy' } end
  elseif not job('n') then
    return { 'wait' }
  elseif not complete() then
    -- A single call is never sent in waves.
    local left, n, sent, starts = job('left'), job('n'), job('sent') or job('n'), job('starts') or '0'
    if decides ~= '1' or tonumber(left) > n - sent then return { 'wait', left, n, sent, count_of(starts) } end
  end
  if redis.call('HINCRBY', JOB, 'joins', 1) > tonumber(most) then return { 'poison' } end
  enter('joining')
  return { 'go' }
end

-- state, output, error, details (JSON)
function step.conclude(state, output, problem, details)
  local stood = job('state')
  if stood ~= 'joining' then return { stood and FINAL[stood] and 'final' or 'stale', stood or 'gone' } end
  if state == 'succeeded' then redis.call('HSET', JOB, 'output', output) end
  if problem ~= '' then redis.call('HSET', JOB, 'error', problem) end
  redis.call('HSET', JOB, 'details', details)
  enter(state)
  return { 'ok' }
end

-- "cancelled", "expired" or "failed", from any state that isn't final
function step.stop(state, problem)
  local stood = job('state')
  if not stood then return { 'gone' } end
  if FINAL[stood] then return { 'final', stood } end
  if problem ~= '' then redis.call('HSET', JOB, 'error', problem) end
  enter(state)
  return { 'ok', job('n') or '0', job('parent') or '' }
end

return step[ARGV[1]](unpack(ARGV, 2, 11))
