"""Which lessons are kept out: whole entries, the same ones every time, and never a test's own."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared import dataset
from shared.training_examples import Text, TrainingExample
from workers.training import splits


def lesson(
    problem: str, group: str | None = None, test: bool = False, question: str = "对吗？"
) -> TrainingExample:
    return TrainingExample(
        problem=problem,
        question=question,
        options=("是", "否"),
        answer="A",
        group=group or problem,
        source="r",
        test=test,
        texts=(Text(text="答案是：A", letter="A"),),
    )


def problems(found: Sequence[TrainingExample]) -> set[str]:
    return {one.problem for one in found}


MANY = [lesson(f"题{at}", question=asked) for at in range(200) for asked in ("对吗？", "错吗？")]


def test_about_the_share_is_kept_out_and_whole_entries_at_that() -> None:
    parts = splits.split(MANY, 0.2, seed=42)
    assert 25 <= len(problems(parts.held_out)) <= 55
    assert problems(parts.held_out).isdisjoint(problems(parts.learned))
    assert len(parts.held_out) + len(parts.learned) == 400
    assert parts.tests == []
    assert parts.dropped == 0


def test_an_entry_is_on_the_same_side_whatever_else_is_there() -> None:
    alone = problems(splits.split(MANY, 0.2, seed=42).held_out)
    more = [*(lesson(f"又{at}") for at in range(50)), *reversed(MANY)]
    together = problems(splits.split(more, 0.2, seed=42).held_out)
    assert alone == {problem for problem in together if problem.startswith("题")}
    assert problems(splits.split(MANY, 0.2, seed=7).held_out) != alone


def test_what_was_made_from_an_entry_goes_with_it() -> None:
    # A paraphrase names its original by the identity of the original's problem.
    made = [lesson(f"题{at}的另一种说法", group=dataset.identity(f"题{at}")) for at in range(200)]
    parts = splits.split([*MANY, *made], 0.2, seed=42)
    for at in range(200):
        both = {f"题{at}", f"题{at}的另一种说法"}
        assert both <= problems(parts.held_out) or both <= problems(parts.learned)


def test_the_same_problem_under_two_names_is_one() -> None:
    twins = [lesson("甲比乙高。", group="one"), lesson("甲比 乙高。\n", group="two")]
    for seed in range(20):
        parts = splits.split([*twins, *MANY], 0.5, seed)
        assert sum(one in parts.held_out for one in twins) in (0, 2)


def test_questions_without_a_problem_are_not_one_problem() -> None:
    many = [lesson(" ", f"entry {at}", question=f"{at}：对吗？") for at in range(200)]
    parts = splits.split(many, 0.2, seed=42)
    assert 25 <= len(parts.held_out) <= 55
    twins = [lesson("", "one", question="谁高？"), lesson("", "two", question="谁 高？")]
    for seed in range(20):
        parts = splits.split([*twins, *many], 0.5, seed)
        assert sum(one in parts.held_out for one in twins) in (0, 2)


def test_of_two_entries_one_is_kept_out_however_small_the_share() -> None:
    parts = splits.split([lesson("一"), lesson("二")], 0.01, seed=42)
    assert (len(parts.learned), len(parts.held_out)) == (1, 1)
    assert splits.split([lesson("一")], 0.01, seed=42).held_out == []


def test_tests_are_never_learned_from_nor_what_would_give_them_away() -> None:
    tests = [lesson("题3", test=True), lesson("题3的另一种说法", group="题3", test=True)]
    parts = splits.split([*MANY, *tests], 0.2, seed=42)
    assert parts.tests == tests
    assert "题3" not in problems(parts.learned) | problems(parts.held_out)
    assert parts.dropped == 2


def test_folds_are_whole_entries_of_about_the_same_number() -> None:
    folds = splits.folds(MANY, 10, seed=42)
    of_problem = dict(zip((one.problem for one in MANY), folds, strict=True))
    assert all(of_problem[one.problem] == fold for one, fold in zip(MANY, folds, strict=True))
    assert {list(of_problem.values()).count(fold) for fold in range(10)} == {20}


def test_tests_have_a_fold_of_their_own_and_what_gives_them_away_has_none() -> None:
    lessons = [*MANY, lesson("题3", test=True)]
    folds = splits.folds(lessons, 10, seed=42)
    assert folds[-1] == 10
    assert [folds[at] for at in (6, 7)] == [splits.DROPPED] * 2
    assert folds.count(splits.DROPPED) == 2


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), max_size=30))
def test_nothing_that_hangs_together_is_parted(names: list[tuple[int, int, bool]]) -> None:
    lessons = [lesson(f"题{problem}", f"组{group}", test) for problem, group, test in names]
    parts = splits.split(lessons, 0.4, seed=1)
    sides = [parts.learned, parts.held_out, parts.tests]
    assert sum(map(len, sides)) + parts.dropped == len(lessons)
    for at, side in enumerate(sides):
        for other in sides[at + 1 :]:
            assert {one.group for one in side}.isdisjoint(one.group for one in other)
            assert problems(side).isdisjoint(problems(other))
