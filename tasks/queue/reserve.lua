#!lua flags=allow-oom
-- Acknowledges messages and reserves the next ones, in one step.
--
-- KEYS   1 kombu's hash of reserved messages, 2 their index by time; then each queue's quarantine; then the queues'
--        lists, priority by priority from the highest, within one in the order in which their turn comes
-- ARGV   1 how many to reserve, 2 stem of their tags, 3 number of the first, 4 whether queues take turns (0, 1),
--        5 number of queues, 6 most entries a quarantine keeps; then the queues' names; then the tags to acknowledge
--
-- Returns {how many were quarantined, whether there may be more (0, 1), queue, tag, message, queue, tag, message, …}.
--
-- A script is not rolled back when it fails, so a message is written down as reserved before it is taken from its list,
-- and nothing is taken that could not be read back. A list that was read as empty is tracked for the connection that
-- called: its next change wakes who listens. Room is given back here, so it may run when memory is short.

-- Bad entries looked at in one step: more of them wait for the next.
local MOST_BAD = 200

local unacked, index = KEYS[1], KEYS[2]
local left, stem, number = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local turns, queues, kept = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local priorities = (#KEYS - 2 - queues) / math.max(queues, 1)

for start = 7 + queues, #ARGV, 500 do
  local stop = math.min(start + 499, #ARGV)
  redis.call('ZREM', index, unpack(ARGV, start, stop))
  redis.call('HDEL', unacked, unpack(ARGV, start, stop))
end

-- JSON by cjson's lights, or by Python's: that one also takes half a surrogate pair.
local function decode(raw)
  local fine, message = pcall(cjson.decode, raw)
  if not fine then
    fine, message = pcall(cjson.decode, (raw:gsub('\\\\', ''):gsub('\\u[dD][89a-fA-F]%x%x', '')))
  end
  return fine and message
end

-- Whether kombu, and a worker that restores the message after us, can read it.
local function readable(raw)
  local message = decode(raw)
  if type(message) ~= 'table' or type(message.properties) ~= 'table' then return false end
  local headers, body = message.headers, message.body
  return (headers == nil or type(headers) == 'table') and (body == nil or type(body) == 'string')
end

local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
local reply, bad = {0, 0}, 0

local order = {}
for queue = 1, queues do order[queue] = queue end

for priority = 0, priorities - 1 do
  local waiting = {}
  for place, queue in ipairs(order) do waiting[place] = queue end
  while waiting[1] do
    if left <= 0 or bad >= MOST_BAD then
      reply[1], reply[2] = bad, 1
      return reply
    end
    local queue = waiting[1]
    local list = KEYS[2 + queues + priority * queues + queue]
    local raw = redis.pcall('LINDEX', list, -1)
    if type(raw) ~= 'string' then
      table.remove(waiting, 1)  -- empty, or no list at all
    elseif readable(raw) then
      local tag = stem .. number
      -- The queue it is in stands for where it goes back to, wherever it was first sent: work may be moved.
      -- The message is spliced in as it is: encoding it anew would make {} of [] and round large numbers.
      local written = redis.pcall('HSET', unacked, tag, '[' .. raw .. ', "", ' .. cjson.encode(ARGV[6 + queue]) .. ']')
      if type(written) == 'table' and written.err then
        if #reply == 2 then return written end
        reply[1], reply[2] = bad, 1
        return reply
      end
      redis.call('ZADD', index, now, tag)
      redis.call('RPOP', list)
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = queue, tag, raw
      number, left = number + 1, left - 1
      if turns then
        table.insert(waiting, table.remove(waiting, 1))
        for place, other in ipairs(order) do
          if other == queue then
            table.insert(order, table.remove(order, place))
            break
          end
        end
      end
    else
      redis.call('LPUSH', KEYS[2 + queue], raw)
      redis.call('LTRIM', KEYS[2 + queue], 0, kept - 1)
      redis.call('RPOP', list)
      bad = bad + 1
    end
  end
end

reply[1] = bad
return reply
