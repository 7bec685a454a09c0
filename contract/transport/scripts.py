"""What the transport does in Redis, each in one step: the Lua of reserving and of giving back.

All of it runs in a server without memory (`allow-oom`): it moves entries and frees them, and a
worker that could not acknowledge would keep the server full. The server's clock is the only one.
"""

from typing import Final

#: How long a worker may be silent before its jobs are taken from it, in seconds: some four looks.
LEASE_SECONDS: Final = 4.0

#: Seconds between two looks of an idle worker: each renews its lease.
RENEW_SECONDS: Final = 1.0

#: Seconds without an answer after which whoever renews a lease takes a connection for dead. It has
#: asked a second after the last time, and must ask again, on a new one, before the lease runs out.
SILENT_SECONDS: Final = 2.0

#: Where no worker at all has renewed for so many seconds, it was the broker that was away, and
#: whoever was cut off gets as long to come back. A worker reconnects in half of it.
SILENCE_SECONDS: Final = 2.0

#: Entries and bytes that one reserve may take. A reply must not hold the event loop for long.
MAX_ENTRIES: Final = 64
MAX_BYTES: Final = 2**23

#: An entry may be as large as a message; the event loop that reads it renews nothing meanwhile. So
#: the lease is longer by what that takes at most, over a slow network too.
READ_BYTES_PER_SECOND: Final = 10_000_000

#: No lease ends later than this from now, that of the largest entry included. One that does was
#: given by a clock that went back since, or by that of another server before a failover.
FAR_SECONDS: Final = 60.0

#: Acknowledgements that one call carries: Lua unpacks no more than some 8,000 values.
MAX_ACKS: Final = 1000

#: What befalls an entry, as its field in the counts ends: the process that ran it died, or the
#: lease of the worker that held it ran out.
LOST: Final = ":lost"
RETURNED: Final = ":returned"

#: Seconds after the last fault for which counts are kept.
_COUNTS_SECONDS: Final = 7 * 24 * 3600

_HEAD: Final = f"""#!lua flags=allow-oom
local leases, counts = KEYS[1], KEYS[2]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function renew(worker, taken)
  local lease, silence = {LEASE_SECONDS}, {SILENCE_SECONDS}
  local latest = redis.call('ZRANGE', leases, -1, -1, 'WITHSCORES')[2]
  if latest and tonumber(latest) > now + {FAR_SECONDS} then
    for _, each in ipairs(redis.call('ZRANGEBYSCORE', leases, now + lease, '+inf')) do
      redis.call('ZADD', leases, now + lease, each)
    end
  elseif latest and now - (tonumber(latest) - lease) > silence then
    for _, each in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now + silence)) do
      redis.call('ZADD', leases, now + silence, each)
    end
  end
  redis.call('ZADD', leases, 'GT', now + lease + taken / {READ_BYTES_PER_SECOND}, worker)
end
"""

#: An entry's tag is its number, a blank and the key of its queue.
_PUT_BACK: Final = f"""
local function number(tag)
  return tonumber(string.sub(tag, 1, string.find(tag, ' ', 1, true) - 1))
end

local function put_back(inbox, tags, fault, push)
  -- The last one taken first, so that the first one taken comes to stand at the very front.
  table.sort(tags, function(a, b) return number(a) > number(b) end)
  local moved = 0
  for _, tag in ipairs(tags) do
    local raw = redis.call('HGET', inbox, tag)
    local queue = string.sub(tag, string.find(tag, ' ', 1, true) + 1)
    -- Where somebody has put another type in the queue's place, the entry stays where it is.
    if raw and type(redis.pcall(push or 'RPUSH', queue, raw)) == 'number' then
      redis.call('HDEL', inbox, tag)
      moved = moved + 1
      if fault ~= '' then
        redis.call('HINCRBY', counts, redis.sha1hex(raw) .. fault, 1)
        redis.call('EXPIRE', counts, {_COUNTS_SECONDS})
      end
    end
  end
  return moved
end
"""

#: Acknowledges, renews the worker's lease and takes entries from the right of the first queues.
#:
#: KEYS: leases, counts, inbox, queues as they are preferred. ARGV: worker; 1 where it should have a
#: lease; number of the first tag; entries and bytes that it may take; number of acknowledgements,
#: these, and fields of the counts to forget.
#:
#: Returns 0 alone where the lease ran out and another worker has taken the inbox; else 1, 1 where
#: another's lease has run out, 1 where all queues are empty, faults of queues, and the entries:
#: tag, raw bytes and, where something befell it, its digest and how often which.
#:
#: It asks for the length of empty queues last, so that a connection that tracks its reads is told
#: of the next entry.
RESERVE: Final = (
    _HEAD
    + """
local inbox, worker = KEYS[3], ARGV[1]
local next, wanted, bytes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local acks = tonumber(ARGV[6])

if ARGV[2] == '1' and not redis.call('ZSCORE', leases, worker) then return {0} end
if acks > 0 then redis.call('HDEL', inbox, unpack(ARGV, 7, 6 + acks)) end
if #ARGV > 6 + acks then redis.call('HDEL', counts, unpack(ARGV, 7 + acks)) end

local entries, faults, is_counted = {}, {}, redis.call('EXISTS', counts) == 1
local function take(raw, queue)
  local tag = string.format('%d ', next) .. queue
  redis.call('HSET', inbox, tag, raw)
  local entry = {tag, raw}
  if is_counted then
    local digest = redis.sha1hex(raw)
    local found = redis.call('HMGET', counts, digest .. ':lost', digest .. ':returned')
    if found[1] or found[2] then
      entry = {tag, raw, digest, tonumber(found[1] or 0), tonumber(found[2] or 0)}
    end
  end
  entries[#entries + 1] = entry
  next, wanted, bytes = next + 1, wanted - 1, bytes - #raw
end

for i = 4, #KEYS do
  while wanted > 0 and bytes > 0 do
    local raw = redis.pcall('RPOP', KEYS[i])
    if type(raw) == 'table' then faults[#faults + 1] = KEYS[i] .. ': ' .. raw.err end
    if type(raw) ~= 'string' then break end
    take(raw, KEYS[i])
  end
end
local is_empty = wanted > 0 and bytes > 0
if is_empty then
  for i = 4, #KEYS do redis.pcall('LLEN', KEYS[i]) end
end
renew(worker, tonumber(ARGV[5]) - bytes)
local late = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1)
return {1, #late, is_empty and 1 or 0, faults, entries}
"""
)

#: Puts entries of a worker back at the front of their queues, in the order in which it took them.
#:
#: KEYS: leases, counts, inbox. ARGV: worker; 1 where it leaves and needs no lease any more; `these`
#: or `behind`, at the back of their queues, or `but`; the fault to count, or ""; number of
#: acknowledgements, these, and the tags to put back, or not to.
#:
#: Returns the tags of `but` that are not in the inbox: another worker has taken them.
RETURN: Final = (
    _HEAD
    + _PUT_BACK
    + """
local inbox, worker, is_leaving, mode, fault = KEYS[3], ARGV[1], ARGV[2] == '1', ARGV[3], ARGV[4]
local acks = tonumber(ARGV[5])
if acks > 0 then redis.call('HDEL', inbox, unpack(ARGV, 6, 5 + acks)) end

local given, missing = {}, {}
for i = 6 + acks, #ARGV do
  given[#given + 1] = ARGV[i]
  if redis.call('HEXISTS', inbox, ARGV[i]) == 0 then missing[#missing + 1] = ARGV[i] end
end
if mode == 'these' then
  put_back(inbox, given, fault)
elseif mode == 'behind' then
  put_back(inbox, given, fault, 'LPUSH')
else
  local is_kept, others = {}, {}
  for _, tag in ipairs(given) do is_kept[tag] = true end
  for _, tag in ipairs(redis.call('HKEYS', inbox)) do
    if not is_kept[tag] then others[#others + 1] = tag end
  end
  put_back(inbox, others, fault)
  if not is_leaving then
    renew(worker, 0)
  elseif redis.call('EXISTS', inbox) == 0 then
    redis.call('ZREM', leases, worker)
  end
end
return missing
"""
)

#: Puts what workers whose lease ran out held back at the front of its queues, and counts it.
#:
#: KEYS: leases, counts. ARGV: what an inbox's key begins with; most workers to look after.
#: Returns each worker and how many entries it held.
RECOVER: Final = (
    _HEAD
    + _PUT_BACK
    + f"""
local found = {{}}
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local inbox = ARGV[1] .. worker
  local moved = put_back(inbox, redis.call('HKEYS', inbox), '{RETURNED}')
  if redis.call('EXISTS', inbox) == 0 then redis.call('ZREM', leases, worker) end
  found[#found + 1] = {{worker, moved}}
end
return found
"""
)
