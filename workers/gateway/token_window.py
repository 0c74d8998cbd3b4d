"""Tokens a minute: a sliding window over the last minute, in half-second steps of the Redis server's clock.

    tokens.charge("votequeue:limit:chat/m@1f0c22aa", 300_000, needs)  ->  Charge(step=3590680047, tokens=1350)
    tokens.settle("votequeue:limit:chat/m@1f0c22aa", charge, needs, Usage(640, 310), memory)

A call is charged its likely usage first; after the reply, the charge is corrected to the actual usage *in the
step where it was charged*. (A leaky bucket such as GCRA cannot do that: returned tokens admit the next calls
sooner, and a minute that begins with calls in flight is overrun.) The likely usage follows from two ratios
learned from all workers' replies: of prompts to their estimates, and of replies to their bounds. A ratio
rises at once to the largest observed and falls slowly. Before the first reply, a call is charged its upper
bound, so that no minute is overrun.
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
WINDOW = 61.0  # seconds: a minute, and a second for the call to reach the service, even from a busy machine
LATEST = 0.5  # most seconds from the charge to the sending of a call; as many remain for the network
# A ratio falls by this share of the way to a reply's own, and by more while there are few replies.
FALL, FEW = 0.01, 2
REMEMBERED = 86_400  # seconds that ratios are kept after a reply

# Runs atomically: sum up the window, and add to it if there is room.
_CHARGE = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local allowed, share = tonumber(ARGV[1]), tonumber(ARGV[2])
local length, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local ratios = redis.call('HMGET', KEYS[2], 'prompt', 'reply')
local prompt, reply = tonumber(ratios[1]) or tonumber(ARGV[8]), tonumber(ratios[2]) or 1
local need = math.ceil(prompt * ARGV[6] + reply * ARGV[7])
-- A need above the limit of a minute waits for an empty window: the actual usage may be less.
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

# Correct a charge, unless Redis has lost it, and update the ratios from a reply.
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

# Move the charge of a late call to the current step, unless Redis has lost it or its step is too old.
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

# Rebuild the window from calls in the ledger, after Redis has lost it.
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
    """Tokens charged in a step; or (``wait`` above 0) nothing was charged, try again in so many seconds.

    ``at`` is a lower bound of the time of the charge, on this process's monotonic clock.
    """

    step: int
    tokens: int
    wait: float
    at: float


class TokenWindows:
    """The token windows of all accounts."""

    def __init__(self, client: redis.Redis) -> None:
        self._charge = client.register_script(_CHARGE)
        self._settle = client.register_script(_SETTLE)
        self._defer = client.register_script(_DEFER)
        self._restore = client.register_script(_RESTORE)

    def charge(self, key: str, allowed: int, share: float, needs: Needs) -> Charge:
        """Charge a call's likely usage if the window has room, at a share of the limit."""
        likely, sent = needs.likely, time.monotonic()
        step, tokens, wait = self._charge(
            keys=[key + SUFFIX, key + RATIOS],
            args=[
                *(allowed, share, STEP, WINDOW, _lifetime()),
                *(likely.input_tokens, likely.output_tokens, _first_prompt_ratio(needs)),
            ],
        )
        return Charge(int(step), int(tokens), float(wait), sent)

    def defer(self, key: str, charge: Charge, memory: str) -> Charge | None:
        """Move a late call's charge to now; the window holds it already, so there is room.

        None: the charge has left the window, or is lost.
        """
        sent = time.monotonic()
        step = self._defer(self._keys(key), [memory, charge.step, charge.tokens, STEP, WINDOW, _lifetime()])
        return None if step is None else dataclasses.replace(charge, step=int(step), at=sent)

    def give_back(self, key: str, charge: Charge, memory: str) -> None:
        """Cancel the charge of a call that was not made."""
        self._settle(self._keys(key), [memory, charge.step, -charge.tokens, _lifetime()])

    def settle(self, key: str, charge: Charge, needs: Needs, used: Usage, memory: str) -> None:
        """Correct a charge to the actual usage, and update the ratios.

        ``memory`` identifies the state in Redis that was charged: if that is lost, nothing is corrected.
        """
        more = used.tokens - charge.tokens
        prompt = used.input_tokens, needs.likely.input_tokens, _first_prompt_ratio(needs)
        reply = used.output_tokens, needs.likely.output_tokens
        learning = *prompt, *reply, FALL, FEW, REMEMBERED
        self._settle(self._keys(key), [memory, charge.step, more, _lifetime(), *learning])

    def restore(self, key: str, used: Iterable[tuple[float, int]]) -> None:
        """Replace a window by known usage: pairs of seconds ago and tokens."""
        pairs = json.dumps([pair for pair in used if pair[1]])
        self._restore([key + SUFFIX], [pairs, STEP, _lifetime()])

    def _keys(self, key: str) -> list[str]:
        return [key + SUFFIX, key + RATIOS, memory_key(key)]


def _lifetime() -> int:
    return round(WINDOW) + 5


def _first_prompt_ratio(needs: Needs) -> float:
    # Until the first reply, a prompt is charged its upper bound.
    return max(1.0, needs.most.input_tokens / max(1, needs.likely.input_tokens))
