"""Tokens a minute: an exact account of the last minute, in half-second steps of the Redis server's clock.

    tokens.charge("votequeue:limit:chat/m@1f0c22aa", 300_000, needs)  ->  Charge(step=3590680047, tokens=1350)
    tokens.settle("votequeue:limit:chat/m@1f0c22aa", charge, needs, Usage(640, 310), memory)

A call is charged what it is likely to use, and in the end, *where it was charged*, what it did use: more or
less. (A leaky bucket such as GCRA cannot do that: what it is given back lets the next calls through sooner,
and a minute that begins with calls in flight is overrun.) What is likely, the replies of all workers show:
one ratio of prompts to their estimates, one of replies to the most that was asked for. A ratio rises at once
to the largest seen, and falls slowly. Before the first reply it is that of the most a call may use, so that
no minute is overrun while nothing is known.
"""

import dataclasses
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

import redis

from shared.providers import Usage
from workers.gateway.backoff import memory_key
from workers.ports import Needs

SUFFIX, RATIOS = ":tokens", ":ratios"
STEP = 0.5  # seconds
WINDOW = 61.0  # seconds: a minute, and a second for the call to reach the service, from a busy machine too
LATEST = 0.5  # seconds after its charge that a call may be sent, which leaves as many for the way
# A ratio falls by this share of the way to a reply's own, and by more while there are few replies.
FALL, FEW = 0.01, 2
REMEMBERED = 86_400  # seconds that ratios are kept after a reply

# Redis runs a script as one step: sum up the window, and add to it if there is room.
_CHARGE = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local allowed, share = tonumber(ARGV[1]), tonumber(ARGV[2])
local length, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local ratios = redis.call('HMGET', KEYS[2], 'prompt', 'reply')
local prompt, reply = tonumber(ratios[1]) or tonumber(ARGV[8]), tonumber(ratios[2]) or 1
local need = math.ceil(prompt * ARGV[6] + reply * ARGV[7])
-- What is more than a whole minute's waits for an empty one: it may be less in the end.
need = math.min(need, allowed)
local limit = math.max(need, math.floor(allowed * share))
local current, oldest = math.floor(now / length), math.floor((now - window) / length)
local stored, steps, used = redis.call('HGETALL', KEYS[1]), {}, 0
for at = 1, #stored, 2 do
    local step, tokens = tonumber(stored[at]), tonumber(stored[at + 1])
    if step < oldest then
        redis.call('HDEL', KEYS[1], stored[at])
    else
        -- The server's clock may have been set back.
        step = math.min(step, current)
        steps[step] = (steps[step] or 0) + tokens
        used = used + tokens
    end
end
if used + need <= limit then
    redis.call('HINCRBY', KEYS[1], string.format('%d', current), need)
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    return {string.format('%d', current), need, '0'}
end
for step = oldest, current do
    used = used - (steps[step] or 0)
    if used + need <= limit then
        return {string.format('%d', current), need, tostring((step + 1) * length + window - now)}
    end
end
return {string.format('%d', current), need, tostring(window)}
"""

# Correct a charge, unless Redis has lost it; where there was a reply, learn from it.
_SETTLE = """
if redis.call('GET', KEYS[3]) == ARGV[1] and tonumber(ARGV[3]) ~= 0 then
    redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
    redis.call('EXPIRE', KEYS[1], ARGV[4])
end
local function learn(field, first, used, likely, fall)
    if likely == 0 then return end
    local seen = used / likely
    local before = tonumber(redis.call('HGET', KEYS[2], field)) or first
    redis.call('HSET', KEYS[2], field, tostring(math.max(seen, before - (before - seen) * fall)))
end
if #ARGV > 4 then
    local replies = redis.call('HINCRBY', KEYS[2], 'replies', 1)
    local fall = math.max(tonumber(ARGV[10]), 1 / (replies + tonumber(ARGV[11])))
    learn('prompt', tonumber(ARGV[7]), tonumber(ARGV[5]), tonumber(ARGV[6]), fall)
    learn('reply', 1, tonumber(ARGV[8]), tonumber(ARGV[9]), fall)
    redis.call('EXPIRE', KEYS[2], ARGV[12])
end
"""

# A call is sent later than it was charged for: unless Redis has lost or left the step, charge it now.
_DEFER = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local length, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local oldest, current = math.floor((now - window) / length), math.floor(now / length)
if redis.call('GET', KEYS[3]) ~= ARGV[1] or tonumber(ARGV[2]) < oldest then return false end
redis.call('HINCRBY', KEYS[1], ARGV[2], -ARGV[3])
redis.call('HINCRBY', KEYS[1], string.format('%d', current), ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[6])
return string.format('%d', current)
"""

# Redis has lost the account, and the ledger knows of some calls of the last minute.
_RESTORE = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
redis.call('DEL', KEYS[1])
for _, used in ipairs(cjson.decode(ARGV[1])) do
    local step = math.floor((now - used[1]) / tonumber(ARGV[2]))
    redis.call('HINCRBY', KEYS[1], string.format('%d', step), used[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


@dataclass(frozen=True)
class Charge:
    """The step that so many tokens were charged in, or (``wait`` above 0) seconds until there may be room.

    ``at`` is no later than the charge, on this process's monotonic clock.
    """

    step: int
    tokens: int
    wait: float
    at: float


class TokenWindows:
    """The accounts of the last minute."""

    def __init__(self, client: redis.Redis) -> None:
        self._charge = client.register_script(_CHARGE)
        self._settle = client.register_script(_SETTLE)
        self._defer = client.register_script(_DEFER)
        self._restore = client.register_script(_RESTORE)

    def charge(self, key: str, allowed: int, share: float, needs: Needs) -> Charge:
        """Charge what a call is likely to use if the last minute has room, at a share of its tokens."""
        likely, sent = needs.likely, time.monotonic()
        step, tokens, wait = self._charge(
            keys=[key + SUFFIX, key + RATIOS],
            args=[
                *(allowed, share, STEP, WINDOW, _kept()),
                *(likely.input_tokens, likely.output_tokens, _first(needs)),
            ],
        )
        return Charge(int(step), int(tokens), float(wait), sent)

    def defer(self, key: str, charge: Charge, memory: str) -> Charge | None:
        """Charge a call that is late as of now; it was in the last minute's account, so there is room.

        None: its charge is out of the account, or lost.
        """
        sent = time.monotonic()
        step = self._defer(self._keys(key), [memory, charge.step, charge.tokens, STEP, WINDOW, _kept()])
        return None if step is None else dataclasses.replace(charge, step=int(step), at=sent)

    def give_back(self, key: str, charge: Charge, memory: str) -> None:
        """Take back what was charged for a call that was not made."""
        self._settle(self._keys(key), [memory, charge.step, -charge.tokens, _kept()])

    def settle(self, key: str, charge: Charge, needs: Needs, used: Usage, memory: str) -> None:
        """Put what a call has used in the place of what it was charged, and learn from it.

        ``memory`` names what Redis knew when it was charged: if that is lost, there is nothing to correct.
        """
        more = used.tokens - charge.tokens
        prompt = used.input_tokens, needs.likely.input_tokens, _first(needs)
        reply = used.output_tokens, needs.likely.output_tokens
        learning = *prompt, *reply, FALL, FEW, REMEMBERED
        self._settle(self._keys(key), [memory, charge.step, more, _kept(), *learning])

    def restore(self, key: str, used: Iterable[tuple[float, int]]) -> None:
        """Begin an account anew, with what was used: pairs of seconds ago and tokens."""
        told = json.dumps([pair for pair in used if pair[1]])
        self._restore([key + SUFFIX], [told, STEP, _kept()])

    def _keys(self, key: str) -> list[str]:
        return [key + SUFFIX, key + RATIOS, memory_key(key)]


def _kept() -> int:
    return round(WINDOW) + 5


def _first(needs: Needs) -> float:
    # Before anything is learned: a prompt is reckoned at the most that it may be.
    return max(1.0, needs.most.input_tokens / max(1, needs.likely.input_tokens))
