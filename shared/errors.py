"""The exception tree: an error's class decides whether work is tried again.

    UserError("data.jsonl line 3: answer 'F' is not one of the 4 options (A-D)")

What a person can mend ends a command with one line and exit 1; what passes is tried again; what never will is
settled as failed.
"""

import math

LONGEST_PAUSE = 3600.0  # seconds that a service's "slow down" is obeyed before the service is called again
LONGEST_DAY = 90_000.0  # seconds until any time zone's next midnight: a day may have 25 hours


class VotequeueError(Exception):
    """The root of everything this project raises on purpose.

    ``used``: tokens of prompt and reply that a service says a failed call has used, and will charge.
    """

    used: tuple[int, int] | None = None


class UserError(VotequeueError):
    """Something the person at the keyboard can mend; the message says what and how."""


class ServiceUnreachable(UserError):
    """A broker, ledger or index that does not answer; the message says which, and how to start it."""


class Conflict(ServiceUnreachable):
    """The ledger undid a transaction that two writers were in: the same one works at once."""


class Unavailable(VotequeueError):
    """The call failed for a reason that passes (a reset, a time-out, a dead engine): again, later."""


class EngineDied(Unavailable):
    """The inference engine's process is gone; whatever was in flight has no result."""


class Unreadable(Unavailable):
    """The service answered with what cannot be used (cut off, empty, not what was asked): again, later."""


class NoReply(Unavailable):
    """The call went out and no reply came (a time-out, a reset): it may have been charged all the same."""


class Throttled(Unavailable):
    """The service says "slow down": all callers of the account do, for ``delay`` seconds where it said so.

    However long it asks for, ``delay`` is `LONGEST_PAUSE` at the most.
    """

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_PAUSE)


class Refused(VotequeueError):
    """The call will never succeed as it stands: the item is settled as failed, with this reason."""


class Held(VotequeueError):
    """No call may be made now, and none is to blame: the item waits untouched, for ``delay`` seconds.

    ``delay`` is `LONGEST_DAY` at the most, and ``None`` where a person must mend something first.
    """

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_DAY)


class Exhausted(Held):
    """A quota that comes back by itself is used up, such as a day's: the queue pauses until then."""


class Barred(Held):
    """The service wants a person: credentials, permission or credit; the message says what to do.

    ``whole``: it is the account with all its models that no longer works, not only this model.
    """

    def __init__(self, message: str, whole: bool = True) -> None:
        super().__init__(message)
        self.whole = whole


class OverBudget(VotequeueError):
    """The call would take its run over the budget: the run stops here."""


def within(delay: float | None, longest: float) -> float | None:
    """Bound a delay that a service asked for, which may be negative, infinite or no number (``None``)."""
    if delay is None or math.isnan(min(delay, longest)):
        return None
    return min(max(delay, 0.0), longest)
