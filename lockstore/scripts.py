"""The Lua texts that run on a lock server, and the layout of their arguments and replies.

Theory of operation. A lock server keeps one durable counter (`{rsv}:fence`) and one marker (`{rsv}:init`, the generation
of the set it was admitted to). A server without both refuses to grant: it may have forgotten locks and counter values
that others still rely on. An acquisition sets all keys of a request or none, and raises the counter once for the whole
batch: two requests granted in one batch have no key in common, so they may share its value, and any later request for
one of their keys meets a higher one. Releases of earlier grants ride in the same call, before the acquisitions, so that
a caller with a queue pays one round for both, and a key released there may be granted again at once.

Every script names all its keys in KEYS, so that the server's access list checks each of them. Batches travel flat: the
number of keys of each request as two bytes (big endian), nonces as one text of 32 characters each. This keeps the
argument count near the key count; one argument for every detail would double the work of parsing on both ends. Releases
are read and deleted by the half thousand, and a request of several keys is looked at as one: each command that a script calls costs
more than what it does.

Numbers in Lua are doubles: counters stay below 2^53, hints more than 2^40 above the counter are refused (a wild hint
would burn the range), and "%.0f" prints them without an exponent.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

FENCE_KEY: Final = "{rsv}:fence"
MARKER_KEY: Final = "{rsv}:init"
NONCE_LENGTH: Final = 32
KEYS_PER_REQUEST_MAX: Final = 4_096
COUNTER_LIMIT: Final = 2**53
HINT_STEP_MAX: Final = 2**40
REJOIN_STEP: Final = 2**20

NOT_INITIALISED: Final = b"-2"
OTHER_GENERATION: Final = b"-3"
COUNTER_EXHAUSTED: Final = b"-4"
# Code of one request in an acquire reply: 0 granted, n > 0 its n-th key is taken, -1 its hint is out of range.
CODE_GRANTED: Final = 0
CODE_HINT_REFUSED: Final = -1

# KEYS: fence, marker, keys to release, keys to acquire.
# ARGV: generation, ttl ms, nonces to acquire, key counts to acquire, nonces to release, key counts to release,
#       then pairs (request number from 1, hint) for the few requests that carry one.
# Reply: "counter" if all requests were granted, else "counter,code,code,..."; or one of the refusals above.
ACQUIRE: Final = """
local byte, sub, call = string.byte, string.sub, redis.call
local ttl, nonces, counts, old_nonces, old_counts = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local at, base, last, values, gone = 2, 2, 2, nil, {}
for i = 1, #old_counts / 2 do last = last + byte(old_counts, 2 * i - 1) * 256 + byte(old_counts, 2 * i) end
for i = 1, #old_counts / 2 do
  local nonce = sub(old_nonces, 32 * i - 31, 32 * i)
  for _ = 1, byte(old_counts, 2 * i - 1) * 256 + byte(old_counts, 2 * i) do
    at = at + 1
    if not values or at > base + 512 then
      base = at - 1
      values = call('mget', unpack(KEYS, at, math.min(at + 511, last)))
    end
    if values[at - base] == nonce then gone[#gone + 1] = KEYS[at] end
  end
end
for i = 1, #gone, 512 do call('del', unpack(gone, i, math.min(i + 511, #gone))) end
local marker, text = call('get', KEYS[2]), call('get', KEYS[1])
if not marker or not text then return '-2' end
if marker ~= ARGV[1] then return '-3,' .. marker end
local counter = tonumber(text)
if counter >= 9007199254740990 then return '-4' end
local hints = {}
for i = 7, #ARGV, 2 do hints[tonumber(ARGV[i])] = tonumber(ARGV[i + 1]) end
local top, granted, codes = counter, 0, {}
local requests = #counts / 2
for i = 1, requests do
  local size = byte(counts, 2 * i - 1) * 256 + byte(counts, 2 * i)
  local nonce, hint, code = sub(nonces, 32 * i - 31, 32 * i), hints[i], 0
  if hint and (hint > counter + 1099511627776 or hint >= 9007199254740990) then
    code = -1
  elseif size == 1 then
    if not call('set', KEYS[at + 1], nonce, 'PX', ttl, 'NX') then code = 1 end
  else
    local taken = 0
    for k = 1, size, 512 do taken = taken + call('exists', unpack(KEYS, at + k, at + math.min(k + 511, size))) end
    for k = 1, taken > 0 and size or 0 do
      if call('exists', KEYS[at + k]) == 1 then code = k break end
    end
    if code == 0 then
      for k = 1, size do call('set', KEYS[at + k], nonce, 'PX', ttl) end
    end
  end
  if code == 0 then
    granted = granted + 1
    if hint and hint > top then top = hint end
  end
  codes[i] = code
  at = at + size
end
if granted == 0 then return '0,' .. table.concat(codes, ',') end
local value = string.format('%.0f', top + 1)
call('set', KEYS[1], value)
if granted == requests then return value end
return value .. ',' .. table.concat(codes, ',')
"""

# KEYS: fence, marker, keys. ARGV: generation, nonces, key counts, then one token for each request.
# Reply: one character a request, 1 where every key still held the nonce and the counter is now at least the token.
WRITE_BACK: Final = """
local byte, sub, call = string.byte, string.sub, redis.call
local nonces, counts, at = ARGV[2], ARGV[3], 2
local text = call('get', KEYS[1])
if call('get', KEYS[2]) ~= ARGV[1] or not text then return '-2' end
local counter, held = tonumber(text), {}
local top = counter
for i = 1, #counts / 2 do
  local size = byte(counts, 2 * i - 1) * 256 + byte(counts, 2 * i)
  local nonce, token, ok = sub(nonces, 32 * i - 31, 32 * i), tonumber(ARGV[3 + i]), '1'
  for k = 1, size do
    if call('get', KEYS[at + k]) ~= nonce then ok = '0' break end
  end
  if ok == '1' and token > top then top = token end
  held[i] = ok
  at = at + size
end
if top > counter then call('set', KEYS[1], string.format('%.0f', top)) end
return table.concat(held)
"""

# KEYS: keys. ARGV: ttl ms, nonces, key counts. Reply: one character a request, 1 where every key was held and extended.
EXTEND: Final = """
local byte, sub, call = string.byte, string.sub, redis.call
local nonces, counts, at, held = ARGV[2], ARGV[3], 0, {}
for i = 1, #counts / 2 do
  local size = byte(counts, 2 * i - 1) * 256 + byte(counts, 2 * i)
  local nonce, ok = sub(nonces, 32 * i - 31, 32 * i), '1'
  for k = 1, size do
    if call('get', KEYS[at + k]) ~= nonce then ok = '0' break end
  end
  if ok == '1' then
    for k = 1, size do call('pexpire', KEYS[at + k], ARGV[1]) end
  end
  held[i] = ok
  at = at + size
end
return table.concat(held)
"""

# KEYS: keys. ARGV: one value for each key, of any length: also what a plain redlock-py client wrote. Reply: keys deleted.
RELEASE: Final = """
local gone = 0
for i = 1, #KEYS do
  if redis.call('get', KEYS[i]) == ARGV[i] then gone = gone + redis.call('del', KEYS[i]) end
end
return gone
"""

# KEYS: fence, marker. ARGV: counter at least this, marker or "" to leave it. Reply: the counter. Never lowers the counter.
ADMIT: Final = """
local counter, wanted = tonumber(redis.call('get', KEYS[1]) or '-1'), tonumber(ARGV[1])
if wanted > counter then counter = wanted end
redis.call('set', KEYS[1], string.format('%.0f', counter))
if ARGV[2] ~= '' then redis.call('set', KEYS[2], ARGV[2]) end
return string.format('%.0f', counter)
"""


def digest(script: str) -> str:
    """Return the name under which a server that has seen the script keeps it."""
    return sha1(script.encode()).hexdigest()
