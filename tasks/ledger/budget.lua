-- The budget of a model's day: what was spent of it, and what attempts in flight have booked. A booking is a part of the
-- attempt's lease, and ends with it.

-- End the leases that have lapsed, and their bookings
local function drop_lapsed(name)
  local key, booked = running_key(name), booked_key(name)
  if redis.call('EXISTS', booked) == 1 then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now)) do redis.call('HDEL', booked, id) end
  end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
end

local function spent_today(limiter)
  return tonumber(limiter.day) == math.floor(now / DAY_MS) and tonumber(limiter.usd) or 0
end

-- Why the budget of the day has no room for an attempt, and the wait (ms): "dear" (it never has), "budget" (it is spent),
-- "left" (smaller attempts have room) or "booked" (those in flight may cost too much); nil where it has. usual: µ$ of a
-- usual call. What callers ask for must not close the model for others, so only a budget that is too small for a usual
-- call does.
local function find_budget_denial(limiter, id, cost, usual)
  local most = tonumber(limiter.budget)
  if not most then return nil end
  if cost > most then return 'dear', 0 end
  local left, day = most - spent_today(limiter), math.floor(now / DAY_MS)
  if cost > left then
    local is_spent = usual > left
    if is_spent then redis.call('HSET', limiter_key(limiter.name), 'spent_day', day) end
    return is_spent and 'budget' or 'left', (day + 1) * DAY_MS - now
  end
  drop_lapsed(limiter.name)
  local booked = redis.call('HGETALL', booked_key(limiter.name))
  for k = 1, #booked, 2 do
    if booked[k] ~= id then left = left - booked[k + 1] end
  end
  if cost > left then return 'booked', 0 end
end
