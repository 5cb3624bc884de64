-- For Lua programs that tine starts warm: executed once, and copied for each connection.
--
--     local warm = dofile("/usr/share/tine/warm/tine_warm.lua")
--     -- Modules and whatever else is the same for each connection.
--     warm.ready()
--     -- From here on, for one connection: os.getenv, io.stdin, io.stdout.
--     warm.done()
--
-- ready() is the point at which the program is copied. After it these are new for each connection:
-- the variables of the connection, which os.getenv reads where the server writes them, and the seed
-- of math.random.
--
-- These stay as they were at the point: what was read from a variable before, and hash seeds.
--
-- Executed for each connection, without a warm start, the program works as well. The generator is
-- seeded there, too.

local warm = {}

local function seed()
  local file = assert(io.open("/dev/urandom", "rb"))
  -- No more than these bytes are read.
  file:setvbuf("no")
  local bytes = { file:read(8):byte(1, 8) }
  file:close()
  -- 31 bits each, as an int of the C library takes them.
  local function number(first)
    local top = bytes[first] % 128
    return ((top * 256 + bytes[first + 1]) * 256 + bytes[first + 2]) * 256 + bytes[first + 3]
  end
  -- Lua before 5.4 reads the first one only.
  math.randomseed(number(1), number(5))
end

--- Says that all that comes before is the same for each connection.
function warm.ready()
  -- Lua cannot ask for a file without opening it.
  local file = io.open("/.tine/ready")
  if file then
    file:close()
  end
  seed()
end

--- Ends the process without the interpreter's tidying-up, which would write to each of its pages.
-- Files are flushed by the C library. Objects are not finalized.
function warm.done(code)
  os.exit(code or 0, false)
end

return warm
