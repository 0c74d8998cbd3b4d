"""The written puzzles: their shape, their fairness, and that a wrong text has no style of its own."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pytest

from producers import sample
from producers.puzzles.families import FAMILIES
from producers.puzzles.languages import LANGUAGES, Count
from producers.puzzles.types import Chain, Query, Unproved
from shared import answers
from shared.errors import UserError

Entry = dict[str, Any]
Pair = tuple[str, str]


STATED = {"zh": "答案是：", "en": "The answer is: "}
HEADED = {"zh": "选择题 {}：\n", "en": "Question {}:\n"}


def _drawn(language: str) -> list[Entry]:
    draws = [
        sample.generate(150, seed, level, None, True, language) for seed in (1, 2) for level in (1, 2, 3)
    ]
    return list(chain.from_iterable(draws))


@pytest.fixture(scope="module")
def english() -> list[Entry]:
    """The entries of ``entries``, in English."""
    return _drawn("en")


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """A few hundred entries of several seeds and every difficulty, with wrong texts."""
    return _drawn("zh")


@pytest.fixture(scope="module")
def by_language(entries: list[Entry], english: list[Entry]) -> dict[str, list[Entry]]:
    return {"zh": entries, "en": english}


def _questions(entries: list[Entry]) -> Iterator[Entry]:
    return (question for entry in entries for question in entry["questions"])


@lru_cache
def _pairs(family: str, number: int, difficulty: int = 2, language: str = "zh") -> list[Pair]:
    drawn = list(sample.generate(number, 77, difficulty, [family], True, language))
    return [(one["reasoning"], one["wrong"][0]["reasoning"]) for one in _questions(drawn)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_entry_has_the_recipes_fields_in_the_recipes_order(
    language: str, by_language: dict[str, list[Entry]]
) -> None:
    for entry in by_language[language]:
        assert list(entry) == ["id", "problem", "questions", "family"]
        assert 1 <= len(entry["questions"]) <= 3
        for place, question in enumerate(entry["questions"], 1):
            assert list(question) == ["question", "options", "answer", "reasoning", "wrong"]
            assert question["question"].startswith(HEADED[language].format(place))


def test_without_wrong_texts_the_rest_is_the_same() -> None:
    plain, full = (list(sample.generate(60, 5, 2, None, wrong)) for wrong in (False, True))
    for question in _questions(full):
        del question["wrong"]
    assert plain == full


@pytest.mark.parametrize("language", LANGUAGES)
def test_two_to_five_options_are_all_different(language: str, by_language: dict[str, list[Entry]]) -> None:
    entries = by_language[language]
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_reasoning_ends_with_its_answer(language: str, by_language: dict[str, list[Entry]]) -> None:
    for question in _questions(by_language[language]):
        for text in (question, *question["wrong"]):
            assert text["reasoning"].split("\n")[-1] == f"{STATED[language]}{text['answer']}"
            assert text["reasoning"].count(STATED[language]) == 1
            assert answers.extract(text["reasoning"], len(question["options"])) == text["answer"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_wrong_text_ends_at_another_option_and_differs_before_that(
    language: str, by_language: dict[str, list[Entry]]
) -> None:
    for question in _questions(by_language[language]):
        [wrong] = question["wrong"]
        assert wrong["answer"] != question["answer"]
        assert 0 <= ord(wrong["answer"]) - ord("A") < len(question["options"])
        bodies = [text["reasoning"].split("\n\n")[1] for text in (question, wrong)]
        assert bodies[0] != bodies[1]


# Texts in each language

BYTES = {
    (1, False): "65e41ceb3a2dc4d72e7f7bdd796eda2990aaf13e570d298dad09a8b05427baf6",
    (1, True): "3d4fedbef2e5b623800fd53497278c315f1e40edc35b1d0e6d2676e8f5354f75",
    (2, True): "2cdf85d38871b1759e99fbf7feb8f4c290287f701e22bac531a9e9bcc3b27e4c",
    (3, True): "6037e831f10840806ae0e333202eefac0dcbe58b4ccf13467bcb328bad54609f",
}


@pytest.mark.parametrize(("difficulty", "wrong"), BYTES)
def test_the_chinese_puzzles_of_a_seed_are_those_of_earlier_versions(
    difficulty: int, wrong: bool, tmp_path: Path
) -> None:
    path = tmp_path / "sample.jsonl"
    sample.write(sample.generate(200, 7, difficulty, None, wrong), path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == BYTES[difficulty, wrong]


def test_a_seed_gives_the_same_puzzles_in_every_language(entries: list[Entry], english: list[Entry]) -> None:
    for ours, other in zip(entries, english, strict=True):
        assert other["id"] == ours["id"].replace("sample-", "sample-en-")
        assert other["family"] == ours["family"]
        assert other["problem"].count("\n") == ours["problem"].count("\n")
        for one, two in zip(ours["questions"], other["questions"], strict=True):
            assert two["answer"] == one["answer"]
            assert two["wrong"][0]["answer"] == one["wrong"][0]["answer"]
            assert two["reasoning"].count("\n") == one["reasoning"].count("\n")
            numbers = [[option for option in each["options"] if option.isdigit()] for each in (one, two)]
            assert numbers[0] == numbers[1]
            assert len(two["options"]) == len(one["options"])


def _english_texts(entries: list[Entry]) -> Iterator[str]:
    for entry in entries:
        yield entry["problem"]
        for question in entry["questions"]:
            yield from (question["question"], *question["options"], question["reasoning"])
            yield question["wrong"][0]["reasoning"]


def test_english_texts_have_no_chinese_in_them(english: list[Entry]) -> None:
    for text in _english_texts(english):
        assert re.findall("[\u2e80-\u9fff\uff00-\uffef]", text) == []


def test_english_texts_are_in_good_form(english: list[Entry]) -> None:
    article = r"\b[Aa] (?=[aeiou](?!ne))|\b[Aa]n (?=[^aeiou])"
    one = r"\b1 (?:days|years|hours|connections|people)\b"
    more = r"\b(?:[02-9]|\d\d+) (?:day|year|hour|connection|person)\b"
    for text in _english_texts(english):
        faults = re.findall(
            rf"{article}|{one}|{more}|  |\s$|^\s| [.,;:?]|[.,;:]{{2}}|[a-z][.,;:?][A-Za-z]|[{{}}]", text
        )
        assert faults == [], text


def test_english_sentences_begin_with_a_capital_and_end_with_a_stop(english: list[Entry]) -> None:
    for entry in english:
        for question in entry["questions"]:
            texts = (entry["problem"], question["question"], question["reasoning"])
            for line in "\n".join(texts).splitlines():
                sentence = re.sub(r"^(?:\d+\. |- )", "", line)
                # The name of a function stays what it is.
                assert re.match(r"$|[A-Z“]|[fgh]\(", sentence), line
                assert re.search(r"(?:^|[.:?]”?|: [A-E])$", sentence), line


def test_the_ids_of_two_languages_can_be_in_one_file() -> None:
    ids = [entry["id"] for language in LANGUAGES for entry in sample.generate(5, 1, language=language)]
    assert len(set(ids)) == len(ids)


def test_a_number_in_a_template_chooses_the_words_for_it() -> None:
    assert [f"{Count(n):# day|# days}" for n in (0, 1, 2)] == ["0 days", "1 day", "2 days"]
    assert [f"{Count(n):th}" for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"),
    ]
    assert f"{Count(7)}" == "7"


def test_a_language_without_puzzles_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'fr': choose from zh, en"):
        sample.generate(1, 1, language="fr")


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
    assert {entry["family"] for entry in sample.generate(len(FAMILIES), 1)} == set(FAMILIES)


def test_harder_puzzles_take_longer_reasoning() -> None:
    for family in FAMILIES:
        texts = [_pairs(family, 40, level) for level in (1, 2, 3)]
        lengths = [sum(len(right) for right, _ in pairs) / len(pairs) for pairs in texts]
        assert lengths[0] < lengths[2], family
        assert lengths[0] <= lengths[1] * 1.05, family


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_text_is_as_long_as_a_right_one(family: str, language: str) -> None:
    pairs = _pairs(family, 400, language=language)
    ratio = sum(len(wrong) for _, wrong in pairs) / sum(len(right) for right, _ in pairs)
    assert 0.95 < ratio < 1.05


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("family", FAMILIES)
def test_character_bigrams_do_not_tell_wrong_from_right_within_a_family(family: str, language: str) -> None:
    assert _bigram_accuracy(_pairs(family, 400, language=language)) < 0.62


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("difficulty", [1, 2, 3])
def test_character_bigrams_do_not_tell_wrong_from_right_over_all(difficulty: int, language: str) -> None:
    drawn = list(sample.generate(500, 21, difficulty, None, True, language))
    pairs = [(one["reasoning"], one["wrong"][0]["reasoning"]) for one in _questions(drawn)]
    assert _bigram_accuracy(pairs) < 0.56


@pytest.mark.parametrize(("language", "length", "run"), [("zh", 6, "[一-鿿]+"), ("en", 16, "[A-Za-z ]+")])
def test_no_turn_of_phrase_is_only_in_wrong_texts(language: str, length: int, run: str) -> None:
    """Every run of six Chinese characters that is common in wrong texts is common in right ones too."""
    seen: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for family in FAMILIES:
        for pair in _pairs(family, 100, language=language):
            for counts, text in zip(seen, pair, strict=True):
                runs = (text[at : at + length] for at in range(len(text) - length + 1))
                counts.update({each for each in runs if re.fullmatch(run, each)})
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
