"""The written puzzles: their shape, their fairness, and that a wrong text has no style of its own."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from producers import sample
from producers.puzzles.types import Chain, Query, Unproved
from shared.errors import UserError

Entry = dict[str, Any]
Pair = tuple[str, str]


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """A few hundred entries of several seeds and every difficulty, with wrong texts."""
    draws = [sample.generate(150, seed, level, None, True) for seed in (1, 2) for level in (1, 2, 3)]
    return list(chain.from_iterable(draws))


def _questions(entries: list[Entry]) -> Iterator[Entry]:
    return (question for entry in entries for question in entry["questions"])


@lru_cache
def _pairs(family: str, number: int, difficulty: int = 2) -> list[Pair]:
    drawn = list(sample.generate(number, 77, difficulty, [family], True))
    return [(one["reasoning"], one["wrong"][0]["reasoning"]) for one in _questions(drawn)]


def test_an_entry_has_the_recipes_fields_in_the_recipes_order(entries: list[Entry]) -> None:
    for entry in entries:
        assert list(entry) == ["id", "problem", "questions", "family"]
        assert 1 <= len(entry["questions"]) <= 3
        for place, question in enumerate(entry["questions"], 1):
            assert list(question) == ["question", "options", "answer", "reasoning", "wrong"]
            assert question["question"].startswith(f"选择题 {place}：\n")


def test_without_wrong_texts_the_rest_is_the_same() -> None:
    plain, full = (list(sample.generate(60, 5, 2, None, wrong)) for wrong in (False, True))
    for question in _questions(full):
        del question["wrong"]
    assert plain == full


def test_two_to_five_options_are_all_different(entries: list[Entry]) -> None:
    sizes = Counter(len(question["options"]) for question in _questions(entries))
    assert set(sizes) == {2, 3, 4, 5}
    assert sizes.most_common(1)[0][0] == 4
    for question in _questions(entries):
        assert len(set(question["options"])) == len(question["options"])
        assert all(option == option.strip() != "" for option in question["options"])


def test_every_letter_is_right_equally_often() -> None:
    drawn = list(chain.from_iterable(sample.generate(350, 9, level, None, True) for level in (1, 2, 3)))
    for size in (2, 3, 4, 5):
        chosen = [question for question in _questions(drawn) if len(question["options"]) == size]
        for letters in (
            Counter(question["answer"] for question in chosen),
            Counter(question["wrong"][0]["answer"] for question in chosen),
        ):
            expected = len(chosen) / size
            statistic = sum((letters["ABCDE"[place]] - expected) ** 2 / expected for place in range(size))
            assert statistic < 16, f"{size} options: {letters}"


def test_yes_and_no_are_right_equally_often() -> None:
    drawn = list(chain.from_iterable(sample.generate(300, 10, level) for level in (1, 2, 3)))
    said = [question["options"][ord(question["answer"]) - 65] for question in _questions(drawn)]
    yes, no = said.count("是"), said.count("否")
    assert yes + no > 100
    assert 0.42 < yes / (yes + no) < 0.58


def test_reasoning_ends_with_its_answer(entries: list[Entry]) -> None:
    for question in _questions(entries):
        for text in (question, *question["wrong"]):
            assert text["reasoning"].split("\n")[-1] == f"答案是：{text['answer']}"
            assert text["reasoning"].count("答案是") == 1


def test_a_wrong_text_ends_at_another_option_and_differs_before_that(entries: list[Entry]) -> None:
    for question in _questions(entries):
        [wrong] = question["wrong"]
        assert wrong["answer"] != question["answer"]
        assert 0 <= ord(wrong["answer"]) - ord("A") < len(question["options"])
        bodies = [text["reasoning"].split("\n\n")[1] for text in (question, wrong)]
        assert bodies[0] != bodies[1]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sample.write(sample.generate(80, 3, 2, None, True), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_sample_begins_as_a_longer_one_does() -> None:
    assert list(sample.generate(20, 4)) == list(islice(sample.generate(1_000_000, 4), 20))


def test_another_seed_makes_other_puzzles() -> None:
    first, second = ({entry["problem"] for entry in sample.generate(50, seed)} for seed in (1, 2))
    assert not first & second


def test_no_entry_comes_twice() -> None:
    drawn = list(sample.generate(1000, 6))
    texts = {(entry["problem"], *(one["question"] for one in entry["questions"])) for entry in drawn}
    assert len(texts) == len({entry["id"] for entry in drawn}) == 1000
    assert drawn[12]["id"] == "sample-6-00012"


def test_the_families_take_turns() -> None:
    drawn = [entry["family"] for entry in sample.generate(6, 1, 1, ["knights", "kinship", "knights"])]
    assert drawn == ["knights", "kinship"] * 3
    assert {entry["family"] for entry in sample.generate(len(sample.FAMILIES), 1)} == set(sample.FAMILIES)


def test_harder_puzzles_take_longer_reasoning() -> None:
    for family in sample.FAMILIES:
        texts = [_pairs(family, 40, level) for level in (1, 2, 3)]
        lengths = [sum(len(right) for right, _ in pairs) / len(pairs) for pairs in texts]
        assert lengths[0] < lengths[2], family
        assert lengths[0] <= lengths[1] * 1.05, family


@pytest.mark.parametrize("family", sample.FAMILIES)
def test_a_wrong_text_is_as_long_as_a_right_one(family: str) -> None:
    pairs = _pairs(family, 400)
    ratio = sum(len(wrong) for _, wrong in pairs) / sum(len(right) for right, _ in pairs)
    assert 0.95 < ratio < 1.05


@pytest.mark.parametrize("family", sample.FAMILIES)
def test_character_bigrams_do_not_tell_wrong_from_right_within_a_family(family: str) -> None:
    assert _bigram_accuracy(_pairs(family, 400)) < 0.62


@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_character_bigrams_do_not_tell_wrong_from_right_over_all(difficulty: int) -> None:
    drawn = list(sample.generate(500, 21, difficulty, None, True))
    pairs = [(one["reasoning"], one["wrong"][0]["reasoning"]) for one in _questions(drawn)]
    assert _bigram_accuracy(pairs) < 0.56


def test_no_turn_of_phrase_is_only_in_wrong_texts() -> None:
    """Every run of six Chinese characters that is common in wrong texts is common in right ones too."""
    seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for family in sample.FAMILIES:
        for pair in _pairs(family, 100):
            for counts, text in zip(seen, pair, strict=True):
                runs = (text[at : at + 6] for at in range(len(text) - 5))
                counts.update({run for run in runs if all("一" <= one <= "鿿" for one in run)})
    common = [run for run, times in seen[1].items() if times >= 20]
    assert len(common) > 100
    assert [run for run in common if seen[0][run] < seen[1][run] / 3] == []


def _bigram_accuracy(pairs: list[Pair]) -> float:
    """Train naive Bayes on half the pairs; give its accuracy on the other half."""
    half = len(pairs) // 2
    counts = [Counter(chain.from_iterable(_bigrams(pair[side]) for pair in pairs[:half])) for side in (0, 1)]
    vocabulary = len(counts[0] | counts[1])
    totals = [sum(count.values()) + vocabulary for count in counts]

    def score(text: str) -> float:
        return sum(
            math.log((counts[0][one] + 1) / totals[0]) - math.log((counts[1][one] + 1) / totals[1])
            for one in _bigrams(text)
        )

    hits = sum((score(right) > 0) + (score(wrong) <= 0) for right, wrong in pairs[half:])
    return hits / (2 * (len(pairs) - half))


def _bigrams(text: str) -> list[str]:
    return [text[at : at + 2] for at in range(len(text) - 1)]


def test_a_sample_is_written_as_json_lines_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sample.jsonl"
    counts = sample.write(sample.generate(30, 8, 1, None, True), path)
    text = path.read_text(encoding="utf-8")
    read = [json.loads(line) for line in text.splitlines()]
    assert read == list(sample.generate(30, 8, 1, None, True))
    assert "\\u" not in text
    total = sum(len(entry["questions"]) for entry in read)
    assert counts == {"entries": 30, "questions": total, "wrong": total}


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text("old", encoding="utf-8")

    def broken() -> Iterator[Entry]:
        yield from sample.generate(2, 1)
        raise RuntimeError("out of ideas")

    with pytest.raises(RuntimeError, match="out of ideas"):
        sample.write(broken(), path)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_number_must_be_one_or_more() -> None:
    with pytest.raises(UserError, match="1 or more"):
        sample.generate(0, 1)


def test_a_difficulty_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="difficulty 4"):
        sample.generate(1, 1, 4)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'sudoku'"):
        sample.generate(1, 1, 1, ["knights", "sudoku"])


def test_a_chain_the_solver_contradicts_is_never_emitted() -> None:
    query = Query("几？", Chain(("一。",), "1"), (), ("2",), lambda option: option == "2")
    with pytest.raises(Unproved, match="not 1"):
        sample._prove(query, ["1", "2"])


def test_two_right_options_are_never_emitted() -> None:
    query = Query("几？", Chain(("一。",), "1"), (), ("2",), lambda option: True)
    with pytest.raises(Unproved):
        sample._prove(query, ["1", "2"])
