"""The exception tree: an error's class determines what happens to the item (`Policy`).

    UserError("data.jsonl line 3: answer 'F' is not one of the 4 options (A-D)")

A `UserError` ends a command with one line and exit code 1. Transient failures are retried. An item whose work
can never succeed is settled as dead.
"""

import math
from enum import Enum
from typing import ClassVar

LONGEST_PAUSE = 3600.0  # longest pause in seconds that a service can cause by throttling
LONGEST_DAY = 90_000.0  # longest time in seconds until a time zone's midnight: a day may have 25 hours


class Policy(Enum):
    """What happens to an item whose work ended in an error; `workers.settlement` applies it."""

    AGAIN = "release it, due at once"
    ELSEWHERE = "release it, due in some seconds"
    BACK_OFF = "retry it with doubling delays; settle it as dead after too many failures"
    PUT_OFF = "release it, due after the error's delay"
    STOP_PROVIDER = "release it, due after the error's delay, and pause the provider until then"
    STOP_WORKER = "release it, due in some seconds, and shut this worker down"
    CHARGE = "record a loss; settle it as dead after too many losses"
    BURY = "settle it as dead"
    LEAVE = "write nothing: another worker has it"


class VotequeueError(Exception):
    """The base class of this project's errors.

    ``policy``: what happens to the item. ``outcome``: the word for such a call in reports.
    ``may_be_charged``: the service may have done its work although the reply was lost or unusable, so the
    call's maximum cost is recorded. ``used``: the tokens of prompt and reply that the service reports for a
    failed call, and will charge.
    """

    policy: ClassVar[Policy] = Policy.CHARGE
    outcome: ClassVar[str] = "error"
    may_be_charged: ClassVar[bool] = False
    used: tuple[int, int] | None = None


class UserError(VotequeueError):
    """A problem that the user can fix; the message says what and how."""

    policy = Policy.ELSEWHERE
    outcome = "not made"


class InvalidOption(UserError):
    """An option's value is invalid, or does not apply; a command exits with 2.

    ``option`` is its name on the command line, ``problem`` says what is wrong.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"{option}: {problem}")
        self.option, self.problem = option, problem


class NotServedHere(VotequeueError):
    """This worker lacks a model or prompt that the run was enqueued with; another worker may have it."""

    policy = Policy.ELSEWHERE
    outcome = "not made"


class ServiceUnreachable(UserError):
    """A broker, ledger or index that does not answer; the message says which, and how to start it."""


class Conflict(ServiceUnreachable):
    """The ledger aborted a transaction that conflicted with another; an immediate retry succeeds."""


class Unavailable(VotequeueError):
    """The call failed for a transient reason (a reset, a time-out, a dead engine): retry later."""

    policy = Policy.BACK_OFF
    outcome = "failed"


class EngineDied(Unavailable):
    """The inference engine's process has died; requests in flight have no result."""

    policy = Policy.CHARGE


class OutOfMemory(EngineDied):
    """The engine died because its memory ran out, which is no item's fault; it gets fewer of them."""

    policy = Policy.AGAIN


class Unreadable(Unavailable):
    """The service's answer is unusable (truncated, empty, not as requested): retry later."""

    outcome = "unreadable"
    may_be_charged = True


class NoReply(Unavailable):
    """The call was sent, but there was no reply (a time-out, a reset); it may have been charged."""

    outcome = "no reply"
    may_be_charged = True


class Throttled(Unavailable):
    """The service throttles the account: all its callers slow down, for ``delay`` seconds if it gave them.

    ``delay`` is at most `LONGEST_PAUSE`.
    """

    outcome = "throttled"

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_PAUSE)


class Refused(VotequeueError):
    """A retry of this call can never succeed: the item is settled as dead, with this reason."""

    policy = Policy.BURY
    outcome = "refused"


class Held(VotequeueError):
    """No call may be made now, which is not the item's fault: it waits untouched for ``delay`` seconds.

    ``delay`` is at most `LONGEST_DAY`; ``None``: a person must fix something first. ``whole``: the error
    concerns all models of the account, not only this one.
    """

    policy = Policy.PUT_OFF
    outcome = "not made"
    whole: bool = False

    def __init__(self, message: str, delay: float | None = None) -> None:
        super().__init__(message)
        self.delay = within(delay, LONGEST_DAY)


class Exhausted(Held):
    """A quota that renews itself, such as a daily one, is used up: the queue pauses until then."""

    policy = Policy.STOP_PROVIDER
    outcome = "exhausted"


class Barred(Held):
    """A person must fix credentials, permissions or credit; the message says what to do."""

    policy = Policy.STOP_PROVIDER
    outcome = "barred"

    def __init__(self, message: str, whole: bool = True) -> None:
        super().__init__(message)
        self.whole = whole


class Halted(VotequeueError):
    """The run makes no calls now, since a person paused or cancelled it, or its deadline is near."""

    policy = Policy.AGAIN
    outcome = "not made"


class OverBudget(VotequeueError):
    """The call could exceed the run's budget: the run stops here."""

    policy = Policy.BURY
    outcome = "not made"


def within(delay: float | None, longest: float) -> float | None:
    """Bound a delay from a service, which may be negative or infinite; ``None`` if it is not a number."""
    if delay is None or math.isnan(min(delay, longest)):
        return None
    return min(max(delay, 0.0), longest)
