-- The only script that moves a job. One call is one step of the state machine in docs/reference/job.md, by the keys and
-- functions of record.lua. Every reply is an array that starts with a word.

-- == Accept and route =============================================================================

-- `mark` is the same for two submissions of one request. The reply 'taken' means that another request has the id.
function step.accept(spec, input, kind, policy, quorum, parent, priority, deadline_ms, keep_ms, mark)
  local state, known = job_fields('state', 'mark')
  if state then return { known == mark and 'exists' or 'taken', state } end
  set_job('mark', mark, 'spec', spec, 'input', input, 'kind', kind, 'policy', policy, 'quorum', quorum,
    'priority', priority, 'keep_ms', keep_ms, 'failed', 0, 'joins', 0)
  if parent ~= '' then set_job('parent', parent) end
  if deadline_ms ~= '' then set_job('deadline_at', now + tonumber(deadline_ms)) end
  enter('accepted')
  return { 'accepted' }
end

-- For a single job `placed` says where its call stands: 'queued' or 'waiting', with its model if that is known.
function step.route(decision, placed, model)
  local state, decided = job_fields('state', 'decision')
  if not state then return { 'gone' } end
  if state ~= 'accepted' and state ~= 'routed' and state ~= 'waiting' then return { 'over', state } end
  if placed == '' then
    set_job('decision', decision)
    enter('routed')
    return { 'routed' }
  end
  -- Admission, or another router, may have been faster: a call that stands in a queue stays there.
  local stood = part(0, 'state')
  local queued = stood and stood ~= 'waiting'
  if queued and decided then return { 'routed' } end
  set_job('decision', decision, 'n', 1, 'left', 1)
  if not queued then
    set_part(0, 'state', placed, 'queued_at', now)
    if model ~= '' then set_part(0, 'model', model) end
  end
  enter((queued or placed == 'queued') and 'routed' or 'waiting')
  return { 'routed' }
end

-- == Plan the parts and send them in waves =========================================================

-- Words of one part in `rest`: model, title, section, the rest of its spec, child job, error. Any may be ''.
local SPEC_WORDS = 6

-- Write parts from index `first` on. They are invisible until they are planned.
local function write(first, rest)
  for place = 0, #rest / SPEC_WORDS - 1 do
    local index, k = first + place, SPEC_WORDS * place
    local model, title, section, extras, child, problem = unpack(rest, k + 1, k + SPEC_WORDS)
    local fields = { 'state', problem == '' and 'waiting' or 'failed', 'model', model }
    local function add(field, value)
      fields[#fields + 1] = field
      fields[#fields + 1] = value
    end
    if title ~= '' then add('title', title) end
    if child ~= '' then
      add('job', child)
      add('owner', child)
      set_job('children', 1)
    end
    if problem ~= '' then add('record', cjson.encode({ error = problem })) end
    set_part(index, unpack(fields))
    if section ~= '' then redis.call('HSET', INPUTS, index, section) end
    if extras ~= '' then redis.call('HSET', INPUTS, 'x' .. index, extras) end
  end
end

-- Send up to `size` of the parts that were not sent. Replies with the wave's number, its first part and their count.
-- A part that has failed already ends here: a wave has ended when `left` counts none but the parts that were not sent.
local function send(size)
  local first, n, starts, asking = job_fields('sent', 'n', 'starts', 'asking')
  first = tonumber(first)
  local count = math.min(tonumber(size), n - first)
  local runs, failed = false, 0
  for index = first, first + count - 1 do
    local stood, child, ended = part_fields(index, 'state', 'job', 'ended_at')
    if stood == 'waiting' then
      runs = runs or child
      set_part(index, 'state', child and 'running' or 'queued', 'queued_at', now)
    elseif stood == 'failed' and not ended then
      set_part(index, 'ended_at', now)
      failed = failed + 1
    end
  end
  if failed > 0 then
    redis.call('HINCRBY', JOB, 'left', -failed)
    if asking ~= '1' then redis.call('HINCRBY', JOB, 'failed', failed) end
  end
  if runs and job('state') == 'routed' then enter('running') end
  set_job('sent', first + count, 'starts', starts == '' and tostring(first) or starts .. ',' .. first)
  return { 'ok', count_of(starts), first, count }
end

-- Why no parts may be planned from index `first` on; nil where they may. A job that joins may plan more.
local function unplannable(first)
  local state, n = job_fields('state', 'n')
  if not state then return { 'gone' } end
  if FINAL[state] then return { 'over', state } end
  if tonumber(n or 0) > first then return { 'planned' } end
  if not OPEN[state] and not (first > 0 and state == 'joining') then return { 'over', state } end
  return nil
end

-- Write parts of a plan that is too large for one step. A job that has ended gets no new key: it would never expire.
function step.write(first, rest)
  first = tonumber(first)
  local problem = unplannable(first)
  if problem then return problem end
  write(first, rest)
  return { 'ok' }
end

-- Plan `count` parts from index `first` on, once, and send the first `wave` of them. `rest` are those parts that were not
-- written before. `stopping` says when a vote is decided (JSON). `whole` (1): the parts hold all of the job's input.
function step.plan(decision, role, first, count, wave, stopping, whole, rest)
  first = tonumber(first)
  local problem = unplannable(first)
  if problem then return problem end
  local state, stages = job_fields('state', 'stages')
  write(first, rest)
  if whole == '1' then set_job('input', '') end
  if decision ~= '' then set_job('decision', decision) end
  if first == 0 then set_job('sent', 0, 'starts', '') end
  if role ~= '' or stages then
    local entry = role .. ':' .. first .. ':' .. count
    set_job('stages', stages and stages .. ',' .. entry or entry)
  end
  set_job('n', first + count, 'left', count, 'asking', role == '' and 0 or 1)
  if role == '' then set_job('base', first, 'failed', 0, 'stopping', stopping) end
  local reply = send(wave)
  if state == 'joining' then
    set_job('joins', 0)
    enter('running')
  end
  announce('planned')
  return reply
end

-- Send the wave of this number, unless it was sent before.
function step.send(wave, size)
  local state, starts, sent, n = job_fields('state', 'starts', 'sent', 'n')
  if not state or not OPEN[state] or not starts then return { 'over' } end
  if count_of(starts) ~= tonumber(wave) or tonumber(sent) >= tonumber(n) then return { 'sent' } end
  return send(size)
end

-- `rest` are pairs of index and model: these calls now stand in the queue of that model.
function step.queue(rest)
  local state, kind = job_fields('state', 'kind')
  if not state or not OPEN[state] then return { 'over' } end
  for k = 1, #rest, 2 do
    local index, model = rest[k], rest[k + 1]
    local stood = part(index, 'state')
    if stood == 'waiting' then
      set_part(index, 'state', 'queued', 'model', model)
    elseif not stood and kind == 'single' then
      -- Admission was faster than the router, which is about to write that the call waits.
      set_part(index, 'queued_at', now, 'state', 'queued', 'model', model)
    end
  end
  if state == 'waiting' then enter('routed') end
  return { 'ok' }
end

-- == Run a part ====================================================================================

-- The lease of a call that just started may not be visible yet: for the time of a lease its owner counts as alive.
local function just_started(started_at, lease_ms) return now - tonumber(started_at) < tonumber(lease_ms) end

-- Claim a part. `at` is the model in whose queue the message stood.
function step.claim(index, owner, at)
  local state, decision, spec, accepted_at, n, base = job_fields('state', 'decision', 'spec', 'accepted_at', 'n', 'base')
  local stood, model, child, holder, title, queued_at, tried, used =
    part_fields(index, 'state', 'model', 'job', 'owner', 'title', 'queued_at', 'tried', 'used')
  -- Without a decision the call was admitted before its router wrote the job: the sweeper sends it again.
  if not state or not stood or not decision then return { 'denied', '', '', '', '' } end
  holder = holder or ''
  if PART_FINAL[stood] then return { 'denied', stood, model, child, holder } end
  if not OPEN[state] then
    set_part(index, 'state', 'skipped')
    return { 'denied', 'skipped', model, child, holder }
  end
  -- The message is out of date: the call moved, and has another message there, or gets one when it is admitted.
  if at ~= '' and (stood == 'waiting' or model ~= at) then return { 'denied', stood, model, child, holder } end
  if stood == 'running' and holder ~= owner then return { 'denied', stood, model, child, holder } end
  -- The same owner claims twice when the first reply was lost on its way: that is one attempt.
  local attempts = redis.call('HINCRBY', PARTS, index .. ':attempts', holder == owner and 0 or 1)
  redis.call('HSETNX', PARTS, index .. ':first_at', now)
  if holder ~= owner then rebook(index, 0, part(index, 'booked')) end
  set_part(index, 'state', 'running', 'owner', owner, 'started_at', now)
  if state ~= 'running' then enter('running') else announce('part ' .. index .. ' running') end
  local section, extras, kept = unpack(redis.call('HMGET', INPUTS, index, 'x' .. index, 'k' .. index))
  return { 'go', attempts, model, spec, section or job('input'), decision, title or '', queued_at or now, now,
    accepted_at, tried or '[]', part(index, 'first_at'), extras or '', n or '1', base or '0', used or '', kept or '' }
end

-- Book the expected cost of the next call (0: end the booking), or reply what is too little: 'broke', what is not spent,
-- with the USD that are left; or 'wait', what other calls have not booked, with the number of parts that have not ended.
function step.book(index, owner, usd, budget)
  local stood, holder, mine = part_fields(index, 'state', 'owner', 'booked')
  if holder ~= owner or PART_FINAL[stood] then return { 'stale' } end
  local spent, booked, parts = job_fields('spent', 'booked', 'left')
  usd = tonumber(usd)
  local left = budget - (spent or 0)
  if usd > left then return { 'broke', string.format('%.9f', math.max(0, left)) } end
  if usd > 0 and usd > left - math.max(0, (booked or 0) - (mine or 0)) then return { 'wait', parts or 1 } end
  rebook(index, usd, mine)
  return { 'ok' }
end

-- Whether the policy `quorum` holds already, whatever becomes of the parts that are left.
local function has_quorum(n, base, left, failed, quorum)
  return n - (base or 0) - left - failed >= tonumber(quorum)
end

-- Whether the votes that are in decide the vote: the rule of tasks/parallel/early_stop.py. A test compares the two.
local function is_decided(rule, left)
  if rule.flag then
    local flagged = tonumber(redis.call('HGET', BALLOTS, rule.flag) or 0)
    -- Failures alone are no verdict: without any ballot the flag is not cleared.
    return flagged >= rule.k or (flagged + left < rule.k and redis.call('HLEN', BALLOTS) > 0)
  end
  local first, second = 0, 0
  for _, votes in ipairs(redis.call('HVALS', BALLOTS)) do
    votes = tonumber(votes)
    if votes > first then first, second = votes, first elseif votes > second then second = votes end
  end
  -- Strictly more than the runner-up can reach: order would break a tie, so a tie is no decision.
  if rule.exact and first > second + left * rule.heaviest + 1e-9 then return true end
  local enough = rule.enough and rule.enough[second + 1]
  return enough ~= nil and first >= enough
end

-- Why the job need not wait for more parts: 'all' have ended, one failure has 'spoilt' it, or the vote is 'decided'.
local function complete()
  local left, asking, policy, failed, stopping, n, base, quorum =
    job_fields('left', 'asking', 'policy', 'failed', 'stopping', 'n', 'base', 'quorum')
  left = tonumber(left)
  if left == 0 then return 'all' end
  -- A join needs every answer to its questions, and handles their failures itself.
  if asking == '1' then return nil end
  if policy == 'fail' and tonumber(failed) > 0 then return 'spoilt' end
  local decided = stopping and stopping ~= '' and is_decided(cjson.decode(stopping), left)
  return decided and has_quorum(n, base, left, failed, quorum) and 'decided' or nil
end

-- Write the end of a part: `verdict` is 'succeeded', 'failed' or 'skipped', `output` its text or its error. The first
-- writer wins. `ballot` ('' = none) counts `weight` votes. `model` is the one that answered, where another was claimed.
-- `never_created` (1): the part has no child job after all. `counts` (0): no model was asked. `reasoning`: the model's
-- thoughts ('' = not kept).
function step.finish(index, owner, verdict, output, reasoning, record, ballot, weight, usd, model, never_created, counts)
  local state, n, kind, asking = job_fields('state', 'n', 'kind', 'asking')
  local stood, holder, booked = part_fields(index, 'state', 'owner', 'booked')
  if not state or not stood or not n then return { 'gone' } end
  if PART_FINAL[stood] then return { 'final', stood } end
  if counts == '0' and holder == owner then forget_attempt(index) end
  if not OPEN[state] then
    set_part(index, 'state', 'cancelled', 'record', record)
    return { 'over', state }
  end
  -- A run that lost its part to another may still bring an answer (the first one counts), but never a failure.
  if verdict ~= 'succeeded' and holder ~= owner then return { 'stale' } end
  set_part(index, 'state', verdict, 'record', record, 'ended_at', now)
  if never_created == '1' then redis.call('HDEL', PARTS, index .. ':job') end
  if model ~= '' then set_part(index, 'model', model) end
  rebook(index, 0, booked)
  -- A cost that is none counts as what was booked.
  usd = measured(usd) or tonumber(booked or 0)
  if usd > 0 then redis.call('HINCRBYFLOAT', JOB, 'spent', string.format('%.17g', usd)) end
  if verdict == 'succeeded' then redis.call('HSET', OUTPUTS, index, output) end
  if reasoning ~= '' then redis.call('HSET', OUTPUTS, 'r' .. index, reasoning) end
  redis.call('HDEL', INPUTS, 'k' .. index)
  redis.call('HINCRBY', JOB, 'left', -1)
  if verdict == 'failed' and asking ~= '1' then redis.call('HINCRBY', JOB, 'failed', 1) end
  if ballot ~= '' then redis.call('HINCRBYFLOAT', BALLOTS, ballot, weight) end
  if kind == 'single' then
    if verdict == 'failed' then set_job('error', output) end
    enter(verdict)
    return { 'ended', verdict }
  end
  announce('part ' .. index .. ' ' .. verdict)
  local reason = complete()
  return reason and { 'complete', reason } or { 'more' }
end

-- == Run a part again ==============================================================================

-- Let go of a part so that it is tried again. `counts` (0): no model was asked, the call waits for a limit. `used`: tokens
-- of all its attempts; `kept`: what its cut answers have left ('' = nothing); the next claim has both.
function step.retry(index, owner, problem, tried, used, kept, counts, usd)
  local state, stood, holder, booked = job('state'), part_fields(index, 'state', 'owner', 'booked')
  if holder ~= owner then return { 'stale' } end
  -- The same owner asks twice when the first reply was lost on its way.
  if stood == 'waiting' then return { 'ok' } end
  if stood ~= 'running' then return { 'stale' } end
  if counts == '0' then forget_attempt(index) end
  if not OPEN[state] then
    set_part(index, 'state', 'cancelled')
    return { 'over', state }
  end
  set_part(index, 'state', 'waiting', 'problem', problem, 'tried', tried, 'used', used, 'queued_at', now)
  if kept ~= '' then redis.call('HSET', INPUTS, 'k' .. index, kept) end
  rebook(index, 0, booked)
  usd = measured(usd) or tonumber(booked or 0)
  if usd > 0 then
    redis.call('HINCRBYFLOAT', JOB, 'spent', string.format('%.17g', usd))
    redis.call('HINCRBYFLOAT', PARTS, index .. ':spent', string.format('%.17g', usd))
  end
  show_part(index, 'waiting')
  return { 'ok' }
end

-- The worker process ends before the call does, and the message returns to the broker.
function step.hand_back(index, owner)
  local stood, holder, booked = part_fields(index, 'state', 'owner', 'booked')
  if stood ~= 'running' or holder ~= owner or not OPEN[job('state')] then return { 'stale' } end
  rebook(index, 0, booked)
  set_part(index, 'state', 'queued', 'owner', '', 'queued_at', now)
  show_part(index, 'queued')
  return { 'ok' }
end

-- Have a part that is 'queued' or 'waiting' (`where`) at `model` wait for another one, at most `most` times.
function step.move(index, where, model, reason, most)
  local state, stood, at, moved = job('state'), part_fields(index, 'state', 'model', 'moved')
  if not state or not stood then return { 'gone' } end
  if PART_FINAL[stood] or not OPEN[state] then return { 'final' } end
  if stood ~= where or (stood == 'queued' and at ~= model) then return { 'stale' } end
  local _, times = string.gsub(moved or '', '[^ ]+', '')
  if times >= tonumber(most) then return { 'spent' } end
  moved = (moved and moved .. ' ' or '') .. model .. ':' .. reason
  set_part(index, 'moved', moved, 'state', 'waiting', 'queued_at', now)
  show_part(index, 'waiting')
  return { 'ok' }
end

-- Queue a part again whose worker is dead (`owner`; '' = the part was never claimed). It may lose its worker `most` times.
function step.requeue(index, owner, most, lease_ms)
  local state, stood, holder, started_at = job('state'), part_fields(index, 'state', 'owner', 'started_at')
  if not state or not stood then return { 'gone' } end
  if PART_FINAL[stood] or not OPEN[state] then return { 'final' } end
  if stood == 'running' then
    if holder ~= owner or just_started(started_at, lease_ms) then return { 'stale' } end
    if redis.call('HINCRBY', PARTS, index .. ':lost', 1) >= tonumber(most) then return { 'poison' } end
  end
  rebook(index, 0, part(index, 'booked'))
  set_part(index, 'state', 'queued')
  show_part(index, 'queued')
  return { 'ok' }
end

-- == End a job =====================================================================================

-- The caller that gets 'go' joins the job, and has `lease_ms` to conclude. A join starts at most `most` times. `decides`
-- (1): the ended parts decide the job, though others were never sent; no part may be running then. 'wait' has the number of
-- parts that have not ended, of all, of those that were sent, and of the waves.
function step.join(lease_ms, most, decides)
  local state, joining_at, n, left, sent, starts = job_fields('state', 'joining_at', 'n', 'left', 'sent', 'starts')
  if not state then return { 'gone' } end
  if FINAL[state] then return { 'done', state } end
  if state == 'joining' then
    if now - tonumber(joining_at) < tonumber(lease_ms) then return { 'busy' } end
  elseif not n then
    return { 'wait' }
  elseif not complete() then
    -- A single call is not sent in waves.
    sent, starts = sent or n, starts or '0'
    if decides ~= '1' or tonumber(left) > n - sent then return { 'wait', left, n, sent, count_of(starts) } end
  end
  if redis.call('HINCRBY', JOB, 'joins', 1) > tonumber(most) then return { 'poison' } end
  enter('joining')
  return { 'go' }
end

-- Write the joined output, or the error. `details` is JSON.
function step.conclude(state, output, problem, details, truncated)
  local stood = job('state')
  if stood ~= 'joining' then return { stood and FINAL[stood] and 'final' or 'stale', stood or 'gone' } end
  if state == 'succeeded' then set_job('output', output) end
  if problem ~= '' then set_job('error', problem) end
  set_job('details', details, 'truncated', truncated)
  enter(state)
  return { 'ok' }
end

-- End a job early, as 'cancelled', 'expired' or 'failed', from any state that is not final.
function step.stop(state, problem)
  local stood = job('state')
  if not stood then return { 'gone' } end
  if FINAL[stood] then return { 'final', stood } end
  if problem ~= '' then set_job('error', problem) end
  enter(state)
  return { 'ok' }
end
