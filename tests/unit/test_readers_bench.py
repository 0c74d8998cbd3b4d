"""The bench of the readers, on votes whose letters are known."""

from tests.bench import readers
from tests.bench.readers import Case, Row

FOUND = [
    Case("p1#1", 2, "B", ("先看答案是：A。更正：答案是：B", "答案是：B", "不知道")),
    Case("p2#1", 2, "A", ("答案：B", "答案：A", "答案：A")),
]


def test_a_reader_is_judged_by_votes_and_by_majorities() -> None:
    assert readers.read(FOUND, "conclusion") == Row("conclusion", 6, 5, 4, 2, 2)
    assert readers.read(FOUND, "reference") == Row("reference", 6, 2, 1, 0, 2)


def test_each_vote_on_which_the_readers_differ_is_shown() -> None:
    shown = list(readers.differences(FOUND))
    assert len(shown) == 4
    assert "p1#1 (right: B)" in shown[0]
