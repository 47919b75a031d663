#!lua flags=allow-oom
-- Acknowledges messages and reserves the next ones, in one step. `Connections.reserve` calls it.
--
-- KEYS   kombu's hash of reserved messages, their index by time; the quarantine of each queue; then the lists of the
--        queues, priority by priority from the highest, within one in the order in which the queues take turns
-- ARGV   the named arguments below, the names of the queues, the tags to acknowledge
--
-- Returns {number of quarantined entries, whether there may be more (0, 1), queue, tag, message, queue, tag, …}.
--
-- A script that fails is not rolled back. So a message is written down as reserved before it leaves its list, and an
-- entry that kombu could not restore leaves for the quarantine. A list that was read as empty is tracked for the calling
-- connection: its next change is announced. Acknowledging frees memory, so the script may run when memory is short.

-- Unreadable entries handled in one step; the next step handles more.
local MOST_BAD = 200
-- Tags removed in one command: Lua's stack bounds `unpack`.
local MOST_UNPACKED = 500

local RESERVED, INDEX = KEYS[1], KEYS[2]
local named = 6
local left, tag_prefix, number = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local round_robin, most_quarantined, queues = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local priorities = queues > 0 and (#KEYS - 2) / queues - 1 or 0
if priorities % 1 ~= 0 or #ARGV < named + queues then
  return redis.error_reply('ERR reserve.lua: the keys do not fit the number of queues')
end

for first = named + queues + 1, #ARGV, MOST_UNPACKED do
  local last = math.min(first + MOST_UNPACKED - 1, #ARGV)
  redis.call('ZREM', INDEX, unpack(ARGV, first, last))
  redis.call('HDEL', RESERVED, unpack(ARGV, first, last))
end

-- JSON, as cjson reads it or as Python does, which also accepts half a surrogate pair.
local function decode(raw)
  local ok, message = pcall(cjson.decode, raw)
  if not ok then
    ok, message = pcall(cjson.decode, (raw:gsub('\\\\', ''):gsub('\\u[dD][89a-fA-F]%x%x', '')))
  end
  return ok and message
end

-- Whether kombu, and a worker that restores the message after us, can read it.
local function is_readable(raw)
  local message = decode(raw)
  if type(message) ~= 'table' or type(message.properties) ~= 'table' then return false end
  local headers, body = message.headers, message.body
  return (headers == nil or type(headers) == 'table') and (body == nil or type(body) == 'string')
end

-- Move a queue behind the others that take turns with it.
local function move_to_end(order, queue)
  for place, other in ipairs(order) do
    if other == queue then
      table.insert(order, table.remove(order, place))
      return
    end
  end
end

local clock = redis.call('TIME')
local now = string.format('%d.%06d', clock[1], clock[2])
local reply, bad = {0, 0}, 0

local order = {}
for queue = 1, queues do order[queue] = queue end

for priority = 1, priorities do
  local waiting = {}
  for place, queue in ipairs(order) do waiting[place] = queue end
  while waiting[1] do
    if left <= 0 or bad >= MOST_BAD then
      reply[1], reply[2] = bad, 1
      return reply
    end
    local queue = waiting[1]
    local list = KEYS[2 + priority * queues + queue]
    local raw = redis.pcall('LINDEX', list, -1)
    if type(raw) ~= 'string' then
      table.remove(waiting, 1)  -- empty, or no list at all
    elseif is_readable(raw) then
      local tag = tag_prefix .. number
      -- The queue that the message is in is where it goes back to, wherever it was first sent: work may be moved.
      -- The message is spliced in as it is: encoding it anew would make {} of [] and round large numbers.
      local entry = '[' .. raw .. ', "", ' .. cjson.encode(ARGV[named + queue]) .. ']'
      local written = redis.pcall('HSET', RESERVED, tag, entry)
      if type(written) == 'table' and written.err then
        if #reply == 2 then return written end
        reply[1], reply[2] = bad, 1
        return reply
      end
      redis.call('ZADD', INDEX, now, tag)
      redis.call('RPOP', list)
      reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = queue, tag, raw
      number, left = number + 1, left - 1
      if round_robin then
        move_to_end(waiting, queue)
        move_to_end(order, queue)
      end
    else
      -- It moves to the quarantine of its queue.
      redis.call('LPUSH', KEYS[2 + queue], raw)
      redis.call('LTRIM', KEYS[2 + queue], 0, most_quarantined - 1)
      redis.call('RPOP', list)
      bad = bad + 1
    end
  end
end

reply[1] = bad
return reply
