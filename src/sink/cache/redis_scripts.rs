//! What runs on the Redis server, each script as one step.
//!
//! Keys, with `P` the prefix: the hash `P:meta` (format, catalog, watermark, next generation, and for each table its generation
//! `g<table>` and floor `f<table>`), and one string `P:<generation>:<table>:<key>` an entry: the position in 8 bytes,
//! big-endian, then a byte for the kind (0 row, 1 gone, 2 unknown), then the encoded row. Position 0 stands for the
//! table's floor, since a bulk load does not know its position before it ends.
//!
//! Positions are compared as two integers of 32 bits: Lua's numbers are doubles, which 64 bits do not fit, and
//! its comparison of strings follows the server's locale.

use redis::Script;

const OLDER: &str = r"
local ZERO = string.rep('\0', 8)
local function older(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end
";

/// Puts entries of one table at one position; answers with the numbers (from 1) of those that were refused.
/// ARGV: prefix, table, `n` when the newer wins, position, watermark or nothing, then a key and a body each. An empty body removes.
const PUT: &str = r"
local got = redis.call('HMGET', KEYS[1], 'g' .. ARGV[2], 'f' .. ARGV[2])
if not got[1] then return redis.error_reply('GONE the cache is no longer there') end
local base = ARGV[1] .. ':' .. got[1] .. ':' .. ARGV[2] .. ':'
local newer_wins = ARGV[3] == 'n'
local at = ARGV[4]
local below = newer_wins and older(at, got[2])
local refused = {}
for i = 6, #ARGV, 2 do
  local key = base .. ARGV[i]
  local stays = below
  if newer_wins and not stays then
    local present = redis.call('GETRANGE', key, 0, 7)
    if present == ZERO then present = got[2] end
    stays = present ~= '' and older(at, present)
  end
  if stays then
    refused[#refused + 1] = (i - 4) / 2
  elseif ARGV[i + 1] == '' then
    redis.call('UNLINK', key)
  else
    redis.call('SET', key, at .. ARGV[i + 1])
  end
end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'watermark', ARGV[5]) end
return refused
";

/// One entry, its position filled in. ARGV: prefix, table, key, `p` for the position and kind alone.
const GET: &str = r"
local got = redis.call('HMGET', KEYS[1], 'g' .. ARGV[2], 'f' .. ARGV[2])
if not got[1] then return false end
local key = ARGV[1] .. ':' .. got[1] .. ':' .. ARGV[2] .. ':' .. ARGV[3]
local entry
if ARGV[4] == 'p' then entry = redis.call('GETRANGE', key, 0, 8) else entry = redis.call('GET', key) end
if not entry or entry == '' then return false end
if string.sub(entry, 1, 8) == ZERO then entry = got[2] .. string.sub(entry, 9) end
return entry
";

/// Points tables to new generations and moves the watermark. ARGV: watermark or nothing, then table, generation and floor each.
/// Answers with generation and floor before, for each table. A floor never goes back.
const SWITCH: &str = r"
if redis.call('HEXISTS', KEYS[1], 'format') == 0 then return redis.error_reply('GONE the cache is no longer there') end
local before = {}
for i = 2, #ARGV, 3 do
  local got = redis.call('HMGET', KEYS[1], 'g' .. ARGV[i], 'f' .. ARGV[i])
  local floor = ARGV[i + 2]
  if older(floor, got[2]) then floor = got[2] end
  redis.call('HSET', KEYS[1], 'g' .. ARGV[i], ARGV[i + 1], 'f' .. ARGV[i], floor)
  before[#before + 1] = got[1]
  before[#before + 1] = got[2]
end
if ARGV[1] ~= '' then redis.call('HSET', KEYS[1], 'watermark', ARGV[1]) end
return before
";

/// Removes entries of an old generation, and carries over those newer than a position, unless there is one newer still.
/// ARGV: prefix, table, what old keys begin with, old floor, that position, then the old keys.
const CARRY: &str = r"
local got = redis.call('HMGET', KEYS[1], 'g' .. ARGV[2], 'f' .. ARGV[2])
for i = 6, #ARGV do
  local entry = redis.call('GET', ARGV[i])
  if entry and got[1] then
    local at = string.sub(entry, 1, 8)
    if at == ZERO then at = ARGV[4] end
    if older(ARGV[5], at) then
      local key = ARGV[1] .. ':' .. got[1] .. ':' .. ARGV[2] .. ':' .. string.sub(ARGV[i], #ARGV[3] + 1)
      local present = redis.call('GETRANGE', key, 0, 7)
      if present == ZERO then present = got[2] end
      if present == '' or older(present, at) then redis.call('SET', key, at .. string.sub(entry, 9)) end
    end
  end
  redis.call('UNLINK', ARGV[i])
end
return 0
";

/// The scripts, by their names above.
pub(super) struct Scripts {
    pub(super) put: Script,
    pub(super) get: Script,
    pub(super) switch: Script,
    pub(super) carry: Script,
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        let script = |body: &str| Script::new(&format!("{OLDER}{body}"));
        Scripts { put: script(PUT), get: script(GET), switch: script(SWITCH), carry: script(CARRY) }
    }
}
