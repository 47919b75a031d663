-- What every script begins with; `Script` in store.py puts it before the script's own file, and calls of `run_step`
-- behind. A step is a function in `step`, and its parameters are what the step is given: Python names them, the words
-- travel in their order. An argument that is absent is ''. A parameter `rest` is a table of all words that are left.

-- Time is the server's: clocks of workers may differ.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local step = {}

-- Run the step that ARGV names, with its `count` arguments; `has_rest`: the last is a table of all words that are left.
local function run_step(count, has_rest)
  local name = ARGV[1]
  if has_rest then
    local rest = {}
    for k = count + 1, #ARGV do rest[k - count] = ARGV[k] end
    ARGV[count + 1] = rest
  elseif #ARGV ~= count + 1 then
    return redis.error_reply('ERR step ' .. name .. ' takes ' .. count .. ' arguments, not ' .. #ARGV - 1)
  end
  return step[name](unpack(ARGV, 2, count + 1))
end
