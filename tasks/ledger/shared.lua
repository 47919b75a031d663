-- What every script begins with.
--
-- A step is a function in `step`, and its parameters are what the step is given: Python names them, and their words travel
-- in this order. An argument that is absent is ''. A last parameter `rest` is a table of all words that are left.
-- `Script` in store.py makes one script of each step: a file without its steps, that step, and a call that counts words.

-- Time is the server's: clocks of workers may differ.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A measured number that is not negative and not above `most` ("" = any finite one); nil for NaN and whatever else is no
-- such number. A bad figure must not lower what is spent, nor make a sum useless for ever.
local function measured(word, most)
  local number = tonumber(word)
  return number and number >= 0 and number <= (most or 1e300) and number or nil
end

local step = {}
