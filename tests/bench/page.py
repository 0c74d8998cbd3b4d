"""What the page of a run costs, by its size: `python -m tests.bench.page [--questions N]`.

    10000 questions: 19.3 MB, written in 21.40 s with 141 MiB
    shown after 2.31 s, 6.1 x the page of 100; a question opens in 0.11 s, a search reads all in 2.05 s

The made texts are as long as real ones, and compress about as well; `--phrases 120` makes problems of 1,900
characters. `--paid` buys the votes by calls, whose replies the ledger has too. Chromium loads each page, from
its file; without Chromium, only the first lines are printed.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from producers.enqueue import publish
from shared import prompt_files, prompts, settings
from shared.dataset import Entry
from shared.ledger import engine, runs, schema
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from shared.voices import REASONING
from tests.browser import FLAGS

RUN, SMALL, VOTES, AT = "bench", 100, 5, 1_790_000_000.0
EXAMPLES, DIGEST = 500, "examples"
_random = random.Random(7)
_words = ["".join(map(chr, _random.choices(range(0x4E00, 0x5600), k=2))) for _ in range(20_000)]
_frequencies = list(itertools.accumulate(1 / rank for rank in range(1, len(_words) + 1)))
TEMPLATE = prompt_files.built_in(prompt_files.FIRST)


def words(count: int) -> str:
    """Make a phrase of words of two characters, as frequent as words are (Zipf's law)."""
    return "".join(_random.choices(_words, cum_weights=_frequencies, k=count))


_common = [words(4) for _ in range(200)]


def problem(phrases: int) -> list[str]:
    """Make a problem of so many phrases, of 16 characters each."""
    return [words(8) for _ in range(phrases)]


def vote(phrases: list[str]) -> str:
    """Make a text of 230 characters, the mean of real votes, of its problem's phrases and common ones."""
    parts = [_random.choices((phrases, _common, [words(8)]), (6, 3, 1))[0] for _ in range(16)]
    return "，".join(map(_random.choice, parts))


def fill(questions: int, phrases: int, paid: bool) -> None:
    """Write a finished run: a question an entry, with two of the solved examples and five votes."""
    options = publish.pinned(Sampling(votes=VOTES), {REASONING: TEMPLATE}).model_dump(mode="json")
    solved = [
        FewShotExample(PromptQuestion("，".join(parts), words(9), (words(3), words(3))), vote(parts), "A", at)
        for at, parts in enumerate(problem(phrases) for _ in range(EXAMPLES))
    ]
    runs.add_examples(DIGEST, solved)
    record = {"name": RUN, "kind": "infer", "source": "made", "digest": "d", "examples": DIGEST}
    with engine.writing() as connection:
        connection.execute(schema.runs.insert().values(created_at=AT, options=options, **record))
        for chunk in engine.chunks(range(questions)):
            for table, rows in _rows(chunk, solved, phrases, paid).items():
                if rows:
                    connection.execute(getattr(schema, table).insert(), rows)


def _rows(
    numbers: list[int], solved: list[FewShotExample], phrases: int, paid: bool
) -> dict[str, list[dict[str, object]]]:
    tables = ("entries", "items", "attempts", "rounds", "votes", "answers", "calls")
    rows: dict[str, list[dict[str, object]]] = {table: [] for table in tables}
    for at in numbers:
        parts = problem(phrases)
        asked = {
            "question": words(9),
            "options": [words(3) for _ in "ABCD"],
            "answer": _random.choice("ABCD"),
        }
        entry = {"id": f"p{at}", "problem": "，".join(parts), "questions": [asked]}
        shown = _random.sample(solved, 2)
        prompt = TEMPLATE.completion(runs.asked(Entry.model_validate(entry), 0), shown)
        key, ended = {"run": RUN, "number": at}, AT + at
        rows["entries"].append({"run": RUN, "position": at, "text": json.dumps(entry, ensure_ascii=False)})
        done = {
            "state": "done",
            "attempt": 1,
            "fence": 1,
            "losses": 0,
            "not_before": 0.0,
            "settled_at": ended,
        }
        rows["items"].append({**key, "key": f"p{at}#1", "entry": at, "question": 0, **done})
        times = {"claimed_at": ended - 9, "ended_at": ended, "outcome": "answered"}
        rows["attempts"].append({**key, "fence": 1, "attempt": 1, "worker": f"host-{at % 4}", **times})
        sampled = {
            "prompt": prompts.digest(prompt),
            "prompt_tokens": 900,
            "sampled_at": ended - 8,
            "seconds": 8.0,
        }
        places = [example.position for example in shown]
        rows["rounds"].append({**key, "attempt": 1, "voice": REASONING, "examples": places, **sampled})
        letters = _random.choices("ABCD", k=VOTES)
        for place, letter in enumerate(letters):
            text = f"{vote(parts)}\n答案是：{letter}"
            cast = {"attempt": 1, "place": place, "text": text, "letter": letter, "score": _random.random()}
            rows["votes"].append(
                {**key, **cast, "accepted": True, "tokens": 154, "scorer": "s", "voice": REASONING}
            )
            if paid:
                reply = json.dumps([{"text": text, "tokens": 154, "letter": letter}], ensure_ascii=False)
                made = {"step": f"vote {place + 1}", "provider": "chat", "model": "m", "outcome": "ok"}
                rows["calls"].append({**key, **made, "begun_at": ended - 8, "reply": reply, "cost": 0.001})
        answer = {"letter": letters[0], "how": "majority", "support": letters.count(letters[0]), "attempt": 1}
        rows["answers"].append({**key, **answer, "answered_at": ended})
    return rows


def written(folder: Path, questions: int, phrases: int, paid: bool) -> Path:
    """Fill a ledger, write its page in a process of its own, and print what that took."""
    os.environ["VOTEQUEUE_HOME"] = str(folder)
    settings.load.cache_clear()
    engine.engine.cache_clear()
    fill(questions, phrases, paid)
    engine.engine().dispose()
    engine.engine.cache_clear()
    page, begun = folder / "page.html", time.monotonic()
    command = [sys.executable, "-m", "producers.cli", "report", RUN, "--html", "-o", str(page)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _pid, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    print(
        f"{questions} questions: {page.stat().st_size / 1e6:.1f} MB, written in "
        f"{time.monotonic() - begun:.2f} s with {usage.ru_maxrss / 1024:.0f} MiB",
        flush=True,
    )
    return page


def loaded(program: str, page: Path) -> tuple[float, float, float]:
    """Time in Chromium, in seconds: until all is shown, its last question is open, and all is searched."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        opened = browser.new_page()
        begun = time.monotonic()
        opened.goto(page.as_uri())
        opened.wait_for_selector("body[data-ready]")
        shown = time.monotonic() - begun
        opened.get_by_role("button", name="tokens").click()
        begun = time.monotonic()
        opened.locator("#table tbody button").last.click()
        opened.wait_for_selector("#opened[open] pre.said")
        took = time.monotonic() - begun
        opened.locator("#close").click()
        begun = time.monotonic()
        opened.locator("input[type=search]").fill("in no text")
        opened.get_by_text(re.compile(r"^0 of \d+ questions$")).wait_for()
        searched = time.monotonic() - begun
        browser.close()
    return shown, took, searched


def main(questions: int, phrases: int = 20, paid: bool = False) -> int:
    """Measure a page of so many questions, and one of few."""
    with tempfile.TemporaryDirectory() as folder:
        pages = [written(Path(folder, str(count)), count, phrases, paid) for count in (SMALL, questions)]
        if (program := shutil.which("chromium")) is None:
            return 0
        (small, *_), (large, open_seconds, searched) = (loaded(program, page) for page in pages)
        print(f"shown after {large:.2f} s, {large / small:.1f} x the page of {SMALL}; ", end="")
        print(f"a question opens in {open_seconds:.2f} s, a search reads all in {searched:.2f} s")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--phrases", type=int, default=20)
    parser.add_argument("--paid", action="store_true")
    sys.exit(main(**vars(parser.parse_args())))
