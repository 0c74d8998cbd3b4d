"""The limiter: lets a call begin when all the limits of its account do, whichever worker makes it.

    with limiter.admit(service, 1800) as turn:  # one of the calls at once, one of the day's
        turn.await_moment()                     # its place in the line, its tokens of the minute
        reply = model.complete(prompt)

All of it is kept under ``votequeue:limit:<service>`` in the broker's Redis, but a day's quota in the ledger.
How calls are made, and what becomes of those that fail, is not known here.
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import redis

from shared import calls, ledger
from shared.errors import Exhausted, Refused
from shared.providers import PROVIDERS
from workers.limits.line import Lines
from workers.limits.pace import Paces
from workers.limits.slots import Slots
from workers.limits.tokens import Tokens
from workers.limits.turn import Books, Turn
from workers.ports import Service


class RedisLimiter:
    """Keeps all workers of an account within its limits; one serves all the threads of a process.

    ``hold``: seconds after which a slot is free whose worker died; longer than any call takes.
    """

    def __init__(self, client: redis.Redis, stopping: threading.Event, hold: float = 150.0) -> None:
        self._books = Books(Paces(client), Lines(client), Tokens(client), Slots(client, hold), stopping)
        # `correct` and `slow_down` speak of the last call that their thread has made.
        self._last = threading.local()

    @contextlib.contextmanager
    def admit(self, service: Service, tokens: int) -> Iterator[Turn]:
        """Wait until one of the calls at once is ours; ``tokens`` is the most that the call may use.

        Raises:
            Exhausted: the day's quota is used up, or the service wants a long pause.
            Interrupted: the worker stops.
            Refused: no minute has so many tokens.
            ServiceUnreachable: the broker does not answer.
        """
        _refuse_too_many(service, tokens)
        turn = Turn(self._books, service, tokens)
        try:
            turn.enter()
            _count_for_today(service)
            self._last.turn = turn
            yield turn
        finally:
            turn.leave()

    def correct(self, service: Service, tokens: int, used: int) -> None:
        """Tell how many of the tokens that were asked for this thread's last call has used."""
        turn = self._last_turn(service)
        if turn is not None:
            turn.answered(tokens - used)

    def slow_down(self, service: Service, delay: float | None) -> None:
        """Let all callers wait, since this thread's last call was told to; ``delay`` in seconds, if it was.

        Raises:
            ServiceUnreachable: the broker does not answer.
        """
        turn = self._last_turn(service) or Turn(self._books, service, 0)
        turn.slow_down(delay)

    def _last_turn(self, service: Service) -> Turn | None:
        turn: Turn | None = getattr(self._last, "turn", None)
        return turn if turn is not None and turn.service.name == service.name else None


def _refuse_too_many(service: Service, tokens: int) -> None:
    most = service.limits.tokens_per_minute
    if most is not None and tokens > most:
        raise Refused(
            f"the call may use {tokens} tokens, but {service.provider}/{service.model} allows {most} "
            "a minute: ask for fewer, or raise its tokens_per_minute in VOTEQUEUE_LIMITS"
        )


def _count_for_today(service: Service) -> None:
    most = service.limits.per_day
    if most is None:
        return
    zone = ZoneInfo(PROVIDERS[service.provider].timezone)
    with ledger.reading() as connection:
        now = datetime.fromtimestamp(ledger.now(connection), zone)
    if calls.use_quota(service.name, now.date().isoformat(), most):
        return
    reset = datetime.combine(now.date() + timedelta(days=1), time(), zone)
    # Not reset - now: within one zone that is wall time, and wrong where a day has no 24 hours.
    delay = reset.timestamp() - now.timestamp()
    raise Exhausted(
        f"the day's {most} calls to {service.provider}/{service.model} are made: "
        f"the next ones are allowed from {reset:%Y-%m-%d %H:%M} {zone.key}",
        delay,
    )
