"""Tokens a minute: an exact account of the last minute, in half-second steps of the Redis server's clock.

    tokens.charge("votequeue:limit:chat/m@1f0c22aa", 300_000, 1800)  ->  Charge(step=3590680047, wait=0.0)
    tokens.give_back("votequeue:limit:chat/m@1f0c22aa", 3590680047, 1350)

A call is charged the most that it may use, and what it did not use is given back *where it was charged*, so
that no minute ever holds more than allowed. (A leaky bucket such as GCRA cannot do that: what it is given
back lets the next calls through sooner, and a minute that begins with calls in flight is overrun.) What a
call is, is not known here.
"""

from dataclasses import dataclass

import redis

SUFFIX = ":tokens"
STEP = 0.5  # seconds
WINDOW = 60.5  # seconds: a minute, and half a second for the call to reach the service

# Redis runs a script as one step: sum up the window, and add to it if there is room.
_CHARGE = """
local moment = redis.call('TIME')
local now = moment[1] + moment[2] / 1000000
local limit, need = tonumber(ARGV[1]), tonumber(ARGV[2])
local length, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local current, oldest = math.floor(now / length), math.floor((now - window) / length)
local stored, steps, used = redis.call('HGETALL', KEYS[1]), {}, 0
for at = 1, #stored, 2 do
    local step, tokens = tonumber(stored[at]), tonumber(stored[at + 1])
    if step < oldest then
        redis.call('HDEL', KEYS[1], stored[at])
    else
        steps[step] = tokens
        used = used + tokens
    end
end
if used + need <= limit then
    redis.call('HINCRBY', KEYS[1], string.format('%d', current), need)
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    return {string.format('%d', current), '0'}
end
for step = oldest, current do
    used = used - (steps[step] or 0)
    if used + need <= limit then
        return {string.format('%d', current), tostring((step + 1) * length + window - now)}
    end
end
return {string.format('%d', current), tostring(window)}
"""


@dataclass(frozen=True)
class Charge:
    """The step that tokens were charged in, or (``wait`` above 0) seconds until there may be room."""

    step: int
    wait: float


class Tokens:
    """The accounts of the last minute."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._charge = client.register_script(_CHARGE)

    def charge(self, key: str, limit: int, need: int) -> Charge:
        """Charge ``need`` tokens if the last minute has room for them."""
        step, wait = self._charge(keys=[key + SUFFIX], args=[limit, need, STEP, WINDOW, round(WINDOW) + 5])
        return Charge(int(step), float(wait))

    def give_back(self, key: str, step: int, tokens: int) -> None:
        """Take tokens out of the step that they were charged in; a step that is over no longer counts."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.hincrby(key + SUFFIX, str(step), -tokens)
            pipe.expire(key + SUFFIX, round(WINDOW) + 5)
            pipe.execute()
