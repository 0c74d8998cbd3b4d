"""The exception tree: an error's class is its retry policy.

    UserError("data.jsonl line 3: answer 'F' is not one of the 4 options (A-D)")

What a person can mend ends a command with one line and exit 1; what passes is tried again; what never
will is settled as failed. It does not know who catches what: the queue modules do.
"""


class VotequeueError(Exception):
    """The root of everything this project raises on purpose."""


class UserError(VotequeueError):
    """Something the person at the keyboard can mend; the message says what and how."""


class ServiceUnreachable(UserError):
    """A broker, ledger or index that does not answer; the message says which, and how to start it."""


class Unavailable(VotequeueError):
    """The call failed for a reason that passes (a reset, a time-out, a dead engine): again, later."""


class EngineDied(Unavailable):
    """The inference engine's process is gone; whatever was in flight has no result."""


class Refused(VotequeueError):
    """The call will never succeed as it stands: the item is settled as failed, with this reason."""
