"""The exception tree: an error's class says what becomes of the item (`Policy`).

    UserError("data.jsonl line 3: answer 'F' is not one of the 4 options (A-D)")

What a person can mend ends a command with one line and exit 1; what passes is tried again; what never will is
settled as failed.
"""

import math
from enum import Enum
from typing import ClassVar

LONGEST_PAUSE = 3600.0  # seconds that a service's "slow down" is obeyed before the service is called again
LONGEST_DAY = 90_000.0  # seconds until any time zone's next midnight: a day may have 25 hours


class Policy(Enum):
    """What becomes of the item whose work ended in an error; `workers.settlement` carries it out."""

    AGAIN = "give it back, due at once"
    ELSEWHERE = "give it back, due in a moment"
    BACK_OFF = "try it again after a delay that doubles, and bury it after too many failures"
    PUT_OFF = "give it back, due after the error's delay"
    STOP_PROVIDER = "put it off, and pause the provider for as long"
    STOP_WORKER = "give it back, due in a moment, and end this worker in order"
    CHARGE = "note a lost lease, and bury it after too many of them"
    BURY = "settle it as failed"
    LEAVE = "write nothing: another worker has it"


class VotequeueError(Exception):
    """The root of everything this project raises on purpose.

    ``policy``: what becomes of the item. ``outcome``: how a call that ended so is counted in reports.
    ``may_be_charged``: the service may have done its work before the reply was lost or spoilt, so the most
    that the call may cost stands. ``used``: tokens of prompt and reply that a service says a failed call has
    used, and will charge.
    """

    policy: ClassVar[Policy] = Policy.CHARGE
    outcome: ClassVar[str] = "error"
    may_be_charged: ClassVar[bool] = False
    used: tuple[int, int] | None = None


class UserError(VotequeueError):
    """Something the person at the keyboard can mend; the message says what and how."""

    policy = Policy.ELSEWHERE
    outcome = "not made"


class NotServedHere(VotequeueError):
    """This worker has not what a run was enqueued with (a model, a prompt); another one may have."""

    policy = Policy.ELSEWHERE
    outcome = "not made"


class ServiceUnreachable(UserError):
    """A broker, ledger or index that does not answer; the message says which, and how to start it."""


class Conflict(ServiceUnreachable):
    """The ledger undid a transaction that two writers were in: the same one works at once."""


class Unavailable(VotequeueError):
    """The call failed for a reason that passes (a reset, a time-out, a dead engine): again, later."""

    policy = Policy.BACK_OFF
    outcome = "failed"


class EngineDied(Unavailable):
    """The inference engine's process is gone; whatever was in flight has no result."""

    policy = Policy.CHARGE


class Unreadable(Unavailable):
    """The service answered with what cannot be used (cut off, empty, not what was asked): again, later."""

    outcome = "unreadable"
    may_be_charged = True


class NoReply(Unavailable):
    """The call went out and no reply came (a time-out, a reset): it may have been charged all the same."""

    outcome = "no reply"
    may_be_charged = True


class Throttled(Unavailable):
    """The service says "slow down": all callers of the account do, for ``delay`` seconds where it said so.

    However long it asks for, ``delay`` is `LONGEST_PAUSE` at the most.
    """

    outcome = "throttled"

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_PAUSE)


class Refused(VotequeueError):
    """The call will never succeed as it stands: the item is settled as failed, with this reason."""

    policy = Policy.BURY
    outcome = "refused"


class Held(VotequeueError):
    """No call may be made now, and none is to blame: the item waits untouched, for ``delay`` seconds.

    ``delay`` is `LONGEST_DAY` at the most, and ``None`` where a person must mend something first.
    ``whole``: it concerns the account with all its models, not only this model.
    """

    policy = Policy.PUT_OFF
    outcome = "not made"
    whole: bool = False

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_DAY)


class Exhausted(Held):
    """A quota that comes back by itself is used up, such as a day's: the queue pauses until then."""

    policy = Policy.STOP_PROVIDER
    outcome = "exhausted"


class Barred(Held):
    """The service wants a person: credentials, permission or credit; the message says what to do."""

    policy = Policy.STOP_PROVIDER
    outcome = "barred"

    def __init__(self, message: str, whole: bool = True) -> None:
        super().__init__(message)
        self.whole = whole


class OverBudget(VotequeueError):
    """The call would take its run over the budget: the run stops here."""

    policy = Policy.BURY
    outcome = "not made"


def within(delay: float | None, longest: float) -> float | None:
    """Bound a delay that a service asked for, which may be negative, infinite or no number (``None``)."""
    if delay is None or math.isnan(min(delay, longest)):
        return None
    return min(max(delay, 0.0), longest)
