"""What replies show of a service's use, and what its calls are bounded by then."""

import pytest

from shared.ledger import engine, token_charges
from shared.ledger.token_charges import MARGIN, PROVEN, UsageSeen
from shared.providers import Usage

pytestmark = pytest.mark.usefixtures("any_ledger")
MOST = Usage(100, 50, 10)


def learn(used: Usage, service: str = "chat/m@1", most: Usage = MOST) -> float:
    with engine.writing() as connection:
        return token_charges.learn(connection, service, most, used)


def test_a_service_that_keeps_within_what_calls_allow_is_bounded_by_that() -> None:
    assert [learn(Usage(90, 50, 10)) for _ in range(3)] == [1.0] * 3
    seen = token_charges.of("chat/m@1")
    assert seen.bound(MOST) == MOST
    assert (seen.replies, seen.input_share, seen.output_share) == (3, 0.9, 1.0)


def test_thinking_beyond_max_tokens_is_reckoned_with_from_then_on() -> None:
    assert learn(Usage(90, 150, 0)) == 3.0 * MARGIN
    assert learn(Usage(90, 120, 0)) == 1.0
    assert token_charges.of("chat/m@1").bound(MOST) == Usage(100, int(150 * MARGIN + 0.5), 10)
    assert learn(Usage(90, 200, 0)) == pytest.approx(4.0 / 3.0)
    assert token_charges.of("chat/m@1").bound(MOST) == Usage(100, 200 * MARGIN, 10)
    assert token_charges.passed("chat") == {"chat/m@1": 4.0}


def test_a_prompt_of_the_services_own_and_its_way_to_count_characters_are_too() -> None:
    assert learn(Usage(180, 0, 0)) == 1.8 * MARGIN
    assert learn(Usage(0, 0, 20)) == 2.0 * MARGIN
    assert token_charges.of("chat/m@1").bound(MOST) == Usage(225, 50, 25)
    assert token_charges.of("chat/n@1").bound(MOST) == MOST
    assert token_charges.passed("cha") == token_charges.passed("qianfan") == {}


def test_what_is_not_bounded_or_not_told_teaches_nothing() -> None:
    assert learn(Usage()) == 1.0
    assert token_charges.of("chat/m@1").replies == 0
    assert learn(Usage(5, 5, 5), most=Usage()) == 1.0
    assert token_charges.of("chat/m@1").bound(MOST) == MOST


def test_few_calls_are_made_at_once_as_long_as_few_replies_have_shown_what_they_use() -> None:
    others: list[int | None] = []
    for _ in range(PROVEN + 1):
        others.append(token_charges.of("chat/m@1").others)
        learn(Usage(90, 50))
    assert others == [*range(PROVEN), None]


def test_once_a_service_is_known_replies_that_show_nothing_new_write_nothing() -> None:
    for _ in range(PROVEN + 5):
        learn(Usage(90, 50))
    assert token_charges.of("chat/m@1") == UsageSeen(PROVEN, 0.9, 1.0, 0.0)
