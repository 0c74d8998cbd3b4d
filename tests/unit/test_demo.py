"""What the demo says of its scorer: it is used only where it beat the majority, and the person is told."""

from infra import demo

TRIED = {"questions": 19, "majority": 0.36, "best": 0.42}


def test_a_scorer_that_beat_the_majority_answers() -> None:
    scorer, why = demo._choose_scorer({"model": "scorer-1f", "answers": TRIED})
    assert scorer == "scorer-1f"
    assert why.startswith("the scorer is used: on 19 held-out questions 42 % right, the plain majority 36 %")
    assert "too few questions for a reliable comparison" in why


def test_a_scorer_that_is_no_better_is_left_out() -> None:
    scorer, why = demo._choose_scorer({"model": "scorer-1f", "answers": {**TRIED, "best": 0.36}})
    assert scorer == "none"
    assert why.startswith("the scorer is not used: ")


def test_a_training_that_came_to_nothing_is_no_scorer() -> None:
    for result in (None, {}, {"model": "scorer-1f"}):
        scorer, why = demo._choose_scorer(result)
        assert scorer == "none"
        assert "every readable vote counts" in why
