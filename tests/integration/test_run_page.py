"""The page of a run: what it holds, that nothing in it is markup, and that a real browser shows it.

page("r")  ->  Page(summary={...}, rows=[...], questions=[...])
"""

import asyncio
import base64
import gzip
import io
import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page as BrowserPage

from producers.reports import run_page
from shared import prompt_files
from shared.jobs import Infer
from shared.ledger import calls, claims, controls, engine, models, retention, runs, schema, votes
from shared.ledger.claims import Settled, VoteRecord
from shared.options import Calibration, Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.voting import Answer, Outcome
from tests.browser import chromium, serious_faults
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeScorer
from tests.integration import call_fixtures, model_fixtures, run_fixtures
from tests.integration.run_fixtures import ballot
from tests.integration.test_enqueue import SAMPLING
from workers.inference.rounds import Rounds

__all__ = ["chromium"]
pytestmark = pytest.mark.usefixtures("on_broker")


@dataclass
class Shown:
    """What a page holds, unpacked."""

    text: str
    summary: dict[str, Any]
    rows: list[dict[str, Any]]
    questions: list[dict[str, Any]]
    shared: list[str]

    def prompt(self, question: int) -> str:
        (sampled,) = self.questions[question]["rounds"]
        problem = self.questions[question]["problem"]
        parts = (problem if part is None else part for part in sampled["prompt"])
        return "".join(part if isinstance(part, str) else self.shared[part] for part in parts)


def unpacked(text: str, name: str) -> Any:
    data = re.search(f'<script type="application/octet-stream" id="{name}">([^<]*)</script>', text)
    return json.loads(gzip.decompress(base64.b64decode(data[1]))) if data else None


def page(run: str) -> Shown:
    file = io.StringIO()
    run_page.write(run, file)
    text = file.getvalue()
    summary = unpacked(text, "summary")
    rows = [dict(zip(summary["columns"], row, strict=True)) for row in unpacked(text, "rows")]
    return Shown(text, summary, rows, questions=chunks(text, "questions"), shared=chunks(text, "shared"))


def chunks(text: str, name: str) -> list[Any]:
    found = (unpacked(text, f"{name}-{at}") for at in itertools.count())
    return [each for chunk in itertools.takewhile(bool, found) for each in chunk]


@pytest.fixture
def answered(home: Path) -> str:
    """Answer three of four questions: right, right in the second round, wrong; the fourth has no label."""
    data = run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C-")
    )
    run_fixtures.infer(data, SAMPLING, "r")
    first, second, third = run_fixtures.claim("r", 0, 1, 2)
    run_fixtures.vote(first, [ballot("A", 0.9), ballot("A", 0.8), ballot("B", 0.1, accepted=False)])
    run_fixtures.vote(second, [ballot("B", 0.4, accepted=False), ballot(None, 0.2)])
    run_fixtures.vote(third, [ballot("A", 0.7), ballot("B", 0.6), ballot("A", 0.5)])
    run_fixtures.vote(run_fixtures.claim("r", 1, worker="two")[0], [ballot("B", 0.9)])
    return "r"


def column(shown: Shown, name: str) -> list[Any]:
    return [row[name] for row in shown.rows]


@pytest.mark.usefixtures("any_ledger")
def test_the_table_says_how_each_question_ended(answered: str) -> None:
    shown = page(answered)
    assert column(shown, "key") == ["p1#1", "p1#2", "p2#1", "p2#2"]
    assert column(shown, "verdict") == ["right", "right", "wrong", "unanswered"]
    assert column(shown, "outcome") == ["majority", "majority", "majority", "still open"]
    assert column(shown, "answer") == ["A", "B", "A", None]
    assert column(shown, "right") == ["A", "B", "C", None]
    assert column(shown, "agreement") == [0.6667, 0.5, 0.6667, None]
    assert column(shown, "confidence") == [0.6667, 0.6667, 0.6667, None]
    assert column(shown, "rounds") == [1, 2, 1, 0]
    assert column(shown, "votes") == [3, 3, 3, 0]
    assert column(shown, "tokens") == [30, 30, 30, 0]
    assert column(shown, "probability") == column(shown, "before") == [None] * 4
    assert all(seconds >= 0 for seconds in column(shown, "answered")[:3])


def test_headline_figures_have_the_intervals_of_their_entries(answered: str) -> None:
    told = {each["label"]: each for each in page(answered).summary["headline"]}
    final = told["accuracy of the final answer"]
    # Of two entries, one is right twice and one wrong once: a resample has both, or one of them twice.
    assert (final["right"], final["of"], final["interval"]) == (2, 3, [0.0, 1.0])
    assert (told["accuracy of one vote"]["right"], told["accuracy of one vote"]["of"]) == (3, 8)
    assert told["agreement (majority's share)"]["value"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)
    assert told["questions answered"]["interval"] is None
    assert not any("note" in each for each in told.values())


def test_what_the_majority_takes_for_an_answer_without_a_letter_is_said(home: Path) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AAB-"))
    run_fixtures.infer(data, SAMPLING, "r")
    for held, letter in zip(run_fixtures.claim("r", 0, 1, 2, 3), [None, None, "B", None], strict=True):
        run_fixtures.vote(held, [ballot(letter)])
    told = {each["label"]: each for each in page("r").summary["headline"]}
    majority = told["accuracy of the first round's majority"]
    assert (majority["right"], majority["of"], majority["note"]) == (3, 3, "2 without a letter count as A")
    assert told["some first-round vote right"]["right"] == 1
    rows = dict(page("r").summary["figures"])
    assert rows["accuracy of the first round's majority"].endswith(", 2 without a letter count as A")


def test_charts_and_cost_are_the_figures(answered: str) -> None:
    shown = page(answered).summary
    assert sorted(shown["charts"]["agreement"]) == [
        [2, 1, "right", 1],
        [3, 2, "right", 1],
        [3, 2, "wrong", 1],
    ]
    assert shown["charts"]["letters"]["right answers"] == {"A": 1, "B": 1, "C": 1}
    assert (shown["charts"]["calibration"], shown["charts"]["scorer"]) == (None, [])
    assert ["tokens sampled", "90"] in shown["cost"]
    assert ["votes without a letter", "1/9  11.1 %"] in shown["figures"]


def test_an_opened_question_has_its_votes_and_its_history(answered: str) -> None:
    question = page(answered).questions[1]
    assert (question["question"], question["options"], question["gold"]) == (
        "谁高？",
        ["甲", "乙", "丙"],
        "B",
    )
    assert [(vote["attempt"], vote["letter"], vote["accepted"]) for vote in question["votes"]] == [
        (1, "B", False),
        (1, None, False),
        (2, "B", True),
    ]
    assert question["votes"][1]["text"] == "我不知道"
    assert [(claim["worker"], claim["outcome"]) for claim in question["claims"]] == [
        ("one", "again: no vote was accepted"),
        ("two", "B: majority"),
    ]
    assert question["answer"]["letter"] == "B"


class _Nearest:
    def nearest(
        self, digest: str, asked: list[PromptQuestion], count: int, same_problem: bool, run: str
    ) -> list[list[FewShotExample]]:
        return [runs.load_examples(digest)[::-1][:count] for _ in asked]


@pytest.fixture
def prompted(home: Path) -> FakeGenerator:
    """Answer two questions that have seen two solved examples; a scorer weighs their votes."""
    model_fixtures.put("s1")
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))
    solved = run_fixtures.write(home / "solved.jsonl", *(run_fixtures.solved(f"s{at}") for at in range(4)))
    sampling = Sampling(votes=2, max_attempts=2, use="weighted", max_thinking=50)
    run_fixtures.infer(data, sampling, "r", str(solved))
    generator = FakeGenerator(otherwise=["因为甲高。\n答案是：A", "我不知道。"])
    models.add_generator(generator.identity)
    rounds = Rounds(generator, FakeScorer(lambda _, text: 0.9), lambda _: _Nearest())
    asyncio.run(rounds.run(claims.claim([Infer(run="r", item=at) for at in (0, 1)], "one", 60)))
    return generator


def test_prompts_are_exact_and_their_examples_are_there_once(prompted: FakeGenerator) -> None:
    shown = page("r")
    assert [shown.prompt(at) for at in (0, 1)] == [request.prompt for request in prompted.requests]
    (sampled,) = shown.questions[0]["rounds"]
    assert [position for position, _ in sampled["examples"]] == [3, 2]
    # The head, the problems of both examples, and their solution, which is the same.
    assert len(shown.shared) == 4
    assert "s3" in shown.shared[sampled["examples"][0][1][0]]
    assert all("(s3)" not in part for part in sampled["prompt"] if isinstance(part, str))


def test_votes_have_what_they_counted(prompted: FakeGenerator) -> None:
    read, unread = page("r").questions[0]["votes"]
    assert (read["score"], read["accepted"]) == (0.9, True)
    assert read["weight"] == pytest.approx(9)
    assert (unread["accepted"], unread["weight"]) == (False, None)


def test_a_prompt_of_another_version_is_not_guessed(
    prompted: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_files.built_in("zh"), "head", "另一个开头。\n")
    (sampled,) = page("r").questions[0]["rounds"]
    assert sampled["prompt"] is None
    assert len(sampled["examples"]) == 2


def test_programs_thinking_and_first_texts_are_there(answered: str) -> None:
    vote = VoteRecord(
        "print('甲')", "A", None, True, 7, thinking="嗯", voice="program", outcome="result", output="甲\n"
    )
    again = VoteRecord("print(1)", None, None, False, 7, voice="program", first_text="x", first_outcome="no")
    (held,) = run_fixtures.claim(answered, 3)
    claims.settle([Settled(held, [vote, again], Answer("A", Outcome.UNSCORED, 1), "A")])
    shown = page(answered)
    first, second = shown.questions[3]["votes"]
    assert (first["thinking"], first["output"], first["outcome"]) == ("嗯", "甲\n", "result")
    assert (second["first_text"], second["first_outcome"]) == ("x", "no")
    assert shown.rows[3]["verdict"] == "unknown"


def test_questions_abstain_by_the_calibration_of_the_run(answered: str) -> None:
    even = ((0.0,) * 9,) * 6
    sure = Calibration(runs=(answered,), questions=3, entries=2, parameters=even, threshold=0.6)
    runs.set_option(answered, "calibration", sure.model_dump(mode="json"))
    shown = page(answered)
    assert column(shown, "verdict") == ["unanswered"] * 4
    assert column(shown, "outcome") == ["abstained"] * 3 + ["still open"]
    assert column(shown, "probability") == [0.5] * 3 + [None]
    assert shown.questions[0]["answer"]["abstained"]
    assert "accuracy of the final answer" not in {each["label"] for each in shown.summary["headline"]}
    (likely,) = shown.summary["charts"]["calibration"]["bins"]
    assert (likely["probability"], likely["share"]) == (0.5, {"right": 2, "of": 3, "share": 2 / 3})


def test_a_run_that_asks_again_shows_the_answers_before(answered: str, home: Path) -> None:
    run_fixtures.infer(home / "data.jsonl", SAMPLING.model_copy(update={"redo_of": answered}), "again")
    assert column(page("again"), "before") == ["A", "B", "A", None]


def test_a_run_without_labels_or_answers_has_a_page_too(home: Path) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "--"))
    run_fixtures.infer(data, SAMPLING, "r")
    shown = page("r")
    assert [each["label"] for each in shown.summary["headline"]] == ["questions answered"]
    run_fixtures.answer_all("r", 2)
    assert [each["label"] for each in page("r").summary["headline"]] == [
        "questions answered",
        "agreement (majority's share)",
    ]


def test_calls_and_their_cost_are_there(answered: str) -> None:
    with engine.writing() as connection:
        calls.put_budget(connection, answered, None)
    call_fixtures.call(runs.get_run(answered), 0, "vote", reply="因为如此，\n答案是：A", cost=0.5)
    (call,) = page(answered).questions[0]["calls"]
    assert (call["provider"], call["outcome"], call["cost"]) == ("chat", "ok", 0.5)
    assert "reply" not in call  # its votes are there


def test_long_votes_lose_their_middle_where_not_all_of_them_fit(
    answered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_page, "_CHARACTERS", 0)
    monkeypatch.setattr(run_page, "_CUT", 0)
    monkeypatch.setattr(run_page, "_LEAST_SHOWN", 20)
    (held,) = run_fixtures.claim(answered, 3)
    run_fixtures.vote(held, [VoteRecord("长" * 80 + "答案是：A", "A", 0.9, True, 80)])
    questions = page(answered).questions
    assert questions[0]["votes"][0]["text"] == "因为如此，\n答案是：A"
    cut = "长" * 10 + "\n[... 65 characters are left out ...]\n" + "长" * 5 + "答案是：A"
    assert questions[3]["votes"][0]["text"] == cut


def test_the_space_of_a_page_is_shared_by_all_its_texts(
    home: Path, prompted: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page("r").summary["longest"] is None
    lengths, asked = votes.text_lengths("r")
    entry = json.loads((home / "data.jsonl").read_text("utf-8"))
    assert lengths == Counter({len("因为甲高。\n答案是：A"): 2, len("我不知道。"): 2})
    assert asked == Counter({len(json.dumps(entry, ensure_ascii=False)): 1})
    assert votes.shown_examples("r") == {2, 3}
    # Only the entry is too long, which counts twice: it has what the votes and the examples leave.
    monkeypatch.setattr(run_page, "_LEAST_SHOWN", 1)
    solved = runs.load_examples(runs.get_run("r").examples or "")[2:]
    shown = sum(len(each.asked.problem) + len(each.reasoning) for each in solved)
    others = 2 * 11 + 2 * 5 + 2 * shown
    monkeypatch.setattr(run_page, "_CUT", others + 2 * 60)
    monkeypatch.setattr(run_page, "_CHARACTERS", others + 2 * max(asked) - 1)
    assert page("r").summary["longest"] == 60
    monkeypatch.setattr(run_page, "_CHARACTERS", others + 2 * max(asked))
    assert page("r").summary["longest"] is None


def test_long_problems_lose_their_middle_too(
    prompted: FakeGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = page("r")
    assert None in whole.questions[0]["rounds"][0]["prompt"]  # the problem is there once
    monkeypatch.setattr(run_page, "_CHARACTERS", 0)
    monkeypatch.setattr(run_page, "_CUT", 0)
    monkeypatch.setattr(run_page, "_LEAST_SHOWN", 8)
    shown = page("r")
    cut = "甲比乙高\n[... 6 characters are left out ...]\n(p1)"
    assert shown.questions[0]["problem"] == cut
    assert shown.questions[0]["options"] == whole.questions[0]["options"]
    assert all("characters are left out" in text for text in shown.shared)
    assert cut in shown.prompt(0)


def test_scores_that_are_no_numbers_are_left_out(answered: str) -> None:
    (held,) = run_fixtures.claim(answered, 3)
    run_fixtures.vote(held, [VoteRecord("答案是：A", "A", None, True, 8, mean_logprob=float("-inf"))])
    assert page(answered).questions[3]["votes"][0]["mean_logprob"] is None


def test_any_text_is_packed_as_it_is() -> None:
    # Older ledgers may have what data sets and votes may not contain now.
    text = "</script>\0\ud800\u2028<!--"
    packed = run_page._packed("x", text)
    assert re.fullmatch('<script type="application/octet-stream" id="x">[A-Za-z0-9+/=]*</script>\n', packed)
    assert unpacked(packed, "x") == text


def test_the_policy_allows_the_own_script_and_style_alone(answered: str) -> None:
    text = page(answered).text
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy == run_page.policy()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert len(re.findall("<script>", text)) == len(re.findall("<style>", text)) == 1
    assert not re.search(r"https?:", re.sub(r"http://www\.w3\.org/2000/svg", "", text))


def test_the_command_writes_the_page(answered: str, home: Path, votequeue: Command) -> None:
    ended = votequeue("report", answered, "--html", "-o", "page.html")
    assert (ended.code, ended.out) == (0, "page.html: 4 questions\n")
    assert (home / "page.html").read_text("utf-8").startswith("<!doctype html>")
    told = json.loads(votequeue("report", answered, "--html", "-o", "page.html", "--json").out)
    assert told == {"run": "r", "path": "page.html", "questions": 4}


def test_the_command_refuses_what_has_no_page(
    answered: str, home: Path, votequeue: Command, tmp_path: Path
) -> None:
    assert votequeue("report", answered, "--html").code == 2
    assert votequeue("report", answered, "--html", "--revote", "-o", "page.html").code == 2
    refused = votequeue("report", answered, "--html", "-o", "data.jsonl")
    assert (refused.code, "is data of run 'r'" in refused.err) == (1, True)
    refused = votequeue("report", answered, "--html", "-o", ".")
    assert (refused.code, ". is a folder: name a file to write" in refused.err) == (1, True)
    call_fixtures.reason_run(home, run_fixtures.entry("p1"), name="texts")
    refused = votequeue("report", "texts", "--html", "-o", "page.html")
    assert (refused.code, "is a reason run, and this needs an infer run" in refused.err) == (1, True)
    assert not (home / "page.html").exists()


# A real browser

BREAK = "document.body.dataset.broken = 1"
HOSTILE = (
    f"</script><script>{BREAK}</script><img src=x onerror='{BREAK}'>"
    "<!--<script>&lt;b&gt; \u2028\u2029\x01 \u202eabc\u202c javascript:alert(1) ${1} `"
)


@pytest.fixture
def hostile(home: Path) -> str:
    """Answer questions whose texts try to be markup, and one that is very long."""
    question = {"question": HOSTILE, "options": [HOSTILE, "乙"], "answer": "A"}
    entries = [
        {"id": "</script><b>", "problem": HOSTILE, "questions": [question]},
        {"id": "long", "problem": "长" * 200_000, "questions": [question]},
    ]
    data = home / "data.jsonl"
    data.write_text("".join(json.dumps(each) + "\n" for each in entries), "utf-8")
    run_fixtures.infer(data, SAMPLING, "r")
    more = {"thinking": HOSTILE, "outcome": HOSTILE, "output": HOSTILE, "detail": HOSTILE}
    vote = VoteRecord(HOSTILE, "A", None, True, 9, **more)
    for held in run_fixtures.claim("r", 0, 1, worker=HOSTILE):
        claims.settle([Settled(held, [vote], Answer("A", Outcome.UNSCORED, 1), HOSTILE)])
    return "r"


def opened(browser: BrowserPage, home: Path, run: str) -> BrowserPage:
    with (home / "page.html").open("w", encoding="utf-8") as file:
        run_page.write(run, file)
    browser.on("dialog", lambda dialog: pytest.fail(dialog.message))
    browser.goto((home / "page.html").as_uri())
    browser.wait_for_selector("body[data-ready]")
    return browser


def keys(browser: BrowserPage) -> list[str]:
    return browser.locator("#table tbody button").all_inner_texts()


def test_hostile_texts_are_text(hostile: str, home: Path, chromium: BrowserPage) -> None:
    shown = opened(chromium, home, hostile)
    assert shown.locator("#table tbody td.text").first.inner_text().startswith("</script><script>")
    assert "</script><b>#1" in keys(shown)
    shown.locator("#table tbody button").first.press("Enter")
    shown.locator("#content pre").first.wait_for()
    texts = [text.text_content() or "" for text in shown.locator("#content pre").all()]
    assert texts[0] == HOSTILE
    assert HOSTILE in texts
    shown.locator("#later").click()
    shown.wait_for_function("document.querySelector('#content pre').textContent.length === 200000")
    assert shown.evaluate("document.body.dataset.broken") is None
    assert shown.locator("img, #content script, #content b, iframe").count() == 0


def test_the_table_filters_sorts_and_opens_by_keyboard(
    answered: str, home: Path, chromium: BrowserPage
) -> None:
    shown = opened(chromium, home, answered)
    assert shown.title() == "votequeue run r"
    assert keys(shown) == ["p1#1", "p1#2", "p2#1", "p2#2"]
    shown.get_by_label("right or wrong").select_option("right")
    assert keys(shown) == ["p1#1", "p1#2"]
    assert shown.locator("#count").inner_text() == "2 of 4 questions"
    shown.get_by_label("agreement to, in %").fill("60")
    assert keys(shown) == ["p1#2"]
    shown.get_by_role("button", name="Clear filters").click()
    search = shown.get_by_label("name, problem, question or option")
    search.fill("P2#")
    assert keys(shown) == ["p2#1", "p2#2"]
    search.fill("高。(P2)")  # of the problem
    shown.get_by_text("2 of 4 questions", exact=True).wait_for()
    assert keys(shown) == ["p2#1", "p2#2"]
    search.fill("in no text")
    assert keys(shown) == []
    shown.get_by_role("button", name="Clear filters").click()
    shown.get_by_label("outcome").select_option("still open")
    assert keys(shown) == ["p2#2"]
    shown.get_by_role("button", name="Clear filters").click()
    shown.get_by_role("combobox", name="answer", exact=True).select_option("B")
    assert keys(shown) == ["p1#2"]
    shown.get_by_role("button", name="Clear filters").click()
    heading = shown.get_by_role("button", name="rounds")
    heading.press("Enter")
    heading.press("Enter")
    assert shown.locator("th[aria-sort=descending]").inner_text() == "rounds"
    # The arrow is no part of the name.
    assert shown.get_by_role("button", name="rounds", exact=True).count() == 1
    assert keys(shown) == ["p1#2", "p1#1", "p2#1", "p2#2"]
    shown.locator("#table tbody button").first.press("Enter")
    content = shown.locator("#content")
    assert content.locator("h2").inner_text() == "p1#2"
    assert shown.evaluate("document.activeElement.textContent") == "p1#2"
    assert content.locator("pre.said").all_inner_texts() == [
        "因为如此，\n答案是：B",
        "我不知道",
        "因为如此，\n答案是：B",
    ]
    assert "attempt 1 ended: again: no vote was accepted" in content.inner_text()
    assert "false" not in content.inner_text()
    shown.keyboard.press("Escape")
    assert shown.evaluate("document.activeElement.textContent") == "p1#2"


def test_charts_have_their_data_as_tables(answered: str, home: Path, chromium: BrowserPage) -> None:
    even = ((0.0,) * 9,) * 6
    known = Calibration(runs=(answered,), questions=3, entries=2, parameters=even)
    runs.set_option(answered, "calibration", known.model_dump(mode="json"))
    with engine.writing() as connection:
        at = 1_790_000_000
        connection.execute(schema.attempts.update().values(claimed_at=at))
        connection.execute(schema.answers.update().values(answered_at=at + schema.answers.c.number))
    shown = opened(chromium, home, answered)

    def data(title: str) -> list[list[str]]:
        table = shown.locator("figure", has_text=f"Data: {title}").locator("tbody tr")
        return [row.locator("td").all_text_contents() for row in table.all()]

    # The bars are right and wrong answers, and those without a verdict.
    assert data("Agreement of votes and right answers") == [["1", "1", "0"], ["2", "1", "1"], ["3", "0", "0"]]
    assert data("How the questions ended") == [["majority", "2", "1", "0"], ["still open", "0", "0", "1"]]
    assert data("Rounds") == [["0", "0", "0", "1"], ["1", "1", "1", "0"], ["2", "1", "0", "0"]]
    assert data("Letters")[-1] == ["none", "11.1", "0", "0"]
    assert data("Reliability") == [["0.500", "66.7 %", "0.0 %", "100.0 %", "3"]]
    assert sum(int(number) for _, *row in data("Answers over time") for number in row) == 3
    assert shown.locator("figure svg[role=img]").count() == 8
    # The bars of two seconds have decimals.
    assert [row[0] for row in data("Answers over time")] == ["0.0", "0.7", "1.3"]


def test_the_focus_stays_where_a_button_is_disabled(home: Path, chromium: BrowserPage) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A" * 101))
    run_fixtures.infer(data, SAMPLING, "r")
    shown = opened(chromium, home, "r")
    shown.get_by_role("button", name="Next page").press("Enter")
    assert keys(shown) == ["p1#101"]
    assert shown.evaluate("document.activeElement.textContent") == "Previous page"
    shown.keyboard.press("Enter")
    assert len(keys(shown)) == 100
    assert shown.evaluate("document.activeElement.textContent") == "Next page"


def test_dropped_texts_and_cancelled_questions_are_said(
    answered: str, home: Path, chromium: BrowserPage
) -> None:
    controls.cancel(answered)
    (ended,) = retention.ended(0.0)
    retention.drop(ended)
    shown = opened(chromium, home, answered)
    shown.locator("#table tbody button").first.click()
    shown.get_by_text("The texts were dropped at 20").wait_for()
    assert shown.locator("pre.said").count() == 0
    shown.locator("#table tbody button").last.evaluate("button => button.click()")
    shown.locator("h2", has_text="p2#2").wait_for()
    assert shown.locator("#content p").first.inner_text() == "cancelled"


def test_the_browser_shows_the_exact_prompt(
    prompted: FakeGenerator, home: Path, chromium: BrowserPage
) -> None:
    shown = opened(chromium, home, "r")
    shown.locator("#table tbody tr").nth(1).click()
    prompt = shown.locator("details", has_text="Exact prompt").locator("pre")
    assert prompt.text_content() == prompted.requests[1].prompt
    assert shown.locator("details", has_text="Example 3").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(answered: str, home: Path, chromium: BrowserPage, scheme: Any) -> None:
    chromium.emulate_media(color_scheme=scheme)
    shown = opened(chromium, home, answered)
    for details in shown.locator("main details").all():
        details.locator("summary").click()
    assert serious_faults(shown) == []
    shown.locator("#table tbody button").first.press("Enter")
    shown.wait_for_selector("#opened[open]")
    assert serious_faults(shown) == []
