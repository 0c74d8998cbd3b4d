"""The error classes: the policy and the outcome of each, and delays that can be waited for."""

import math

import pytest

from shared import errors
from shared.errors import (
    LONGEST_DAY,
    LONGEST_PAUSE,
    Conflict,
    Exhausted,
    Held,
    NoReply,
    Policy,
    Refused,
    ServiceUnreachable,
    Throttled,
    Unreadable,
    UserError,
    VotequeueError,
)
from shared.ledger import calls
from workers import ports, settlement
from workers.settlement import ErrorPolicies


@pytest.mark.parametrize(
    ("asked", "delay"),
    [
        (None, None),
        (0, 0),
        (7.5, 7.5),
        (-3.0, 0.0),
        (86_400, LONGEST_PAUSE),
        (1e300, LONGEST_PAUSE),
        (10**400, LONGEST_PAUSE),
        (math.inf, LONGEST_PAUSE),
        (-math.inf, 0.0),
        (math.nan, None),
    ],
)
def test_slow_down_is_obeyed_for_an_hour_at_the_most(asked: float | None, delay: float | None) -> None:
    assert Throttled("429", asked).delay == delay


@pytest.mark.parametrize("kind", [Held, Exhausted])
def test_a_day_s_quota_is_waited_for_until_the_next_midnight_at_the_most(kind: type[Held]) -> None:
    assert kind("used up", 86_400.0).delay == 86_400.0
    assert kind("used up", 1e9).delay == kind("used up", math.inf).delay == LONGEST_DAY
    assert kind("used up", None).delay is None


def _tree(root: type[VotequeueError]) -> list[type[VotequeueError]]:
    return [root, *(below for child in root.__subclasses__() for below in _tree(child))]


def test_settlement_carries_out_the_policy_of_every_error() -> None:
    tree = _tree(VotequeueError)
    assert ports.Interrupted in tree
    assert [kind.__name__ for kind in tree if kind.policy not in settlement.SETTLE] == []
    assert set(settlement.SETTLE) == set(Policy)


def test_every_error_says_how_a_call_that_ended_in_it_is_counted() -> None:
    root, *tree = _tree(VotequeueError)
    ours = [kind for kind in tree if kind.__module__ == errors.__name__]
    assert [kind.__name__ for kind in ours if kind.outcome == root.outcome] == []
    assert {kind.outcome for kind in tree} >= {"throttled", "no reply", calls.NOT_MADE}
    assert {kind for kind in tree if kind.may_be_charged} == {NoReply, Unreadable}


def test_a_queue_s_first_fitting_override_goes_before_the_policy_of_the_class() -> None:
    policies = ErrorPolicies({ServiceUnreachable: Policy.ELSEWHERE, UserError: Policy.STOP_WORKER})
    assert policies.of(Conflict("again")) is Policy.ELSEWHERE
    assert policies.of(UserError("no weights")) is Policy.STOP_WORKER
    assert policies.of(Refused("no")) is Policy.BURY
    assert policies.of(ZeroDivisionError()) is Policy.CHARGE


def test_only_errors_that_put_an_item_off_stop_a_provider() -> None:
    delayed = {Policy.PUT_OFF, Policy.STOP_PROVIDER}
    assert all(issubclass(kind, Held) for kind in _tree(VotequeueError) if kind.policy in delayed)
