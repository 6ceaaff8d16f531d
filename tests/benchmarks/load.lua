-- For wrk: sends the requests of a file and says what came of them as one line of JSON.
-- Arguments: the file, the size of one request in bytes, the first request to send and how many
-- there are from it, and the number of wrk's threads, each of which sends a part of its own. Where a
-- part is at its end it begins again, and "again" tells.

local threads = {}
local file, size, start, share
taken, share_size = 0, 0

function setup(thread)
   thread:set("number", #threads)
   table.insert(threads, thread)
end

function init(arguments)
   file = assert(io.open(arguments[1], "rb"))
   size, share = tonumber(arguments[2]), math.floor(arguments[4] / arguments[5])
   start = (arguments[3] + number * share) * size
   share_size = share
end

function request()
   if taken % share == 0 then
      file:seek("set", start)
   end
   taken = taken + 1
   return file:read(size)
end

function done(summary, latency, requests)
   local again = 0
   for _, thread in ipairs(threads) do
      again = again + math.max(0, thread:get("taken") - thread:get("share_size"))
   end
   local errors = summary.errors
   local broken = errors.connect + errors.read + errors.write + errors.timeout
   io.write(string.format(
      '\n{"answered":%d,"microseconds":%d,"again":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}\n',
      summary.requests, summary.duration, again, errors.status, broken,
      latency:percentile(50), latency:percentile(99)))
end
