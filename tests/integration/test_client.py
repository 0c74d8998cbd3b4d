"""The Python API: the commands stand on it, and both refuse the same things with the same words."""

import inspect
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from producers import Client, collect, hub_push
from producers.collect import Collected
from producers.enqueue import calibrate
from producers.reports.inference_report import Figures
from shared import options
from shared.errors import UserError
from shared.ledger import claims, runs
from shared.ledger.claims import Settled
from shared.options import Reading, Sampling
from shared.voting import Answer, Outcome
from tests.conftest import Command
from tests.integration import run_fixtures

pytestmark = pytest.mark.usefixtures("on_broker")
COMMANDS = {
    "enqueue_infer": "enqueue infer data.jsonl",
    "forecast": "enqueue infer data.jsonl --dry-run",
    "progress": "status base",
    "wait": "status base --watch",
    "pause": "pause base",
    "resume": "resume base",
    "cancel": "cancel base",
    "delete": "delete base --yes",
    "priority": "priority base 2",
    "retention": "retention --older-than 30d",
    "calibrate": "calibrate base --from base --json",
    "collect": "collect base -o answers.jsonl",
    "combine": "enqueue infer base nine --combine plain",
    "push": "collect base --push hf://me/answers",
    "report": "report base",
    "revote": "report base --revote",
    "compare": "compare base nine",
    "save": "compare base nine -o page",
    "save_page": "report base --html -o page.html",
}


@pytest.fixture
def data(home: Path) -> Path:
    return run_fixtures.write(
        home / "data.jsonl", run_fixtures.entry("p1", "AB"), run_fixtures.entry("p2", "C")
    )


@pytest.fixture
def answered(data: Path) -> Client:
    """Enqueue two runs, and answer their three questions with A."""
    client = Client()
    for name, votes in (("base", 5), ("nine", 9)):
        client.enqueue_infer(data, run=name, votes=votes)
        for held in run_fixtures.claim(name, 0, 1, 2):
            answer = Answer("A", Outcome.MAJORITY, 5)
            claims.settle([Settled(held, [run_fixtures.ballot("A")] * 5, answer, "done")])
    return client


@pytest.mark.parametrize("method", COMMANDS)
def test_the_commands_call_the_client(
    method: str, answered: Client, votequeue: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pushed(run: str, target: str, *_: Any) -> tuple[Any, str]:
        return collect.collect(run, Path("pushed.jsonl")), target

    monkeypatch.setattr(hub_push, "push", pushed)  # `test_hub_push` has a hub
    # Three answers are too few to learn from.
    monkeypatch.setattr(calibrate, "_LEAST", 1)
    monkeypatch.setattr(calibrate, "learn", lambda *_: (((0.0,) * 9,) * 6, 0.0))
    called = []
    original = getattr(Client, method)

    def recorded(*arguments: Any, **given: Any) -> Any:
        called.append(method)
        return original(*arguments, **given)

    monkeypatch.setattr(Client, method, recorded)
    ended = votequeue(*COMMANDS[method].split())
    assert (ended.code, called) == (0, [method]), ended.err


def test_every_method_is_the_work_of_a_command() -> None:
    methods = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert set(methods) == set(COMMANDS)


@pytest.mark.usefixtures("any_ledger")
def test_a_run_is_enqueued_waited_for_and_read(answered: Client) -> None:
    progress = answered.wait("base", timeout=10)
    assert (progress.open, progress.states["done"]) == (0, 3)
    assert [(each.key, each.letter, each.support, each.confidence) for each in answered.collect("base")] == [
        ("p1#1", "A", 5, 1.0),
        ("p1#2", "A", 5, 1.0),
        ("p2#1", "A", 5, 1.0),
    ]
    report = answered.report("base")
    assert isinstance(report, Figures)
    assert (report.final.right, report.final.of) == (1, 3)
    assert answered.compare("base", "nine").runs[1].same.value == 1


def test_results_are_written_to_files_by_their_names(answered: Client, home: Path) -> None:
    written = answered.collect("base", str(home / "answers.jsonl"), fields=["confidence"])
    assert isinstance(written, Collected)
    assert (written.answered, written.open) == (3, 0)
    (question, _), _ = (entry["questions"] for entry in run_fixtures.read(home / "answers.jsonl"))
    assert (question["answer"], question["confidence"]) == ("A", 1.0)
    for report in (answered.report("base"), answered.compare("base", "nine")):
        files = answered.save(report, str(home / "page"))
        assert {"report.md", "report.json"} <= {file.name for file in files}


def test_the_same_call_continues_a_run_and_others_use_its_votes_or_its_questions(answered: Client) -> None:
    assert answered.enqueue_infer("data.jsonl", run="base", votes=5).continued
    assert answered.enqueue_infer("base", run="again", fallback="constant").items == 3
    assert runs.get_run("again").options["votes_of"] == "base"
    with pytest.raises(UserError, match="no question to ask again: none is truncated"):
        answered.enqueue_infer("base", only="truncated")


def test_options_are_those_of_the_command(data: Path) -> None:
    client = Client()
    client.enqueue_infer(data, run="few", votes=3, max_tokens=64, limit=1, threshold=None)
    run = runs.get_run("few")
    assert (run.options["votes"], run.options["max_tokens"], run.options["threshold"]) == (3, 64, None)
    assert client.progress("few").total == 2


def test_no_option_is_named_twice() -> None:
    named = [
        name for model in (Sampling, Reading) for name in model.model_fields if options.flag_of(model, name)
    ]
    named += inspect.signature(Client.enqueue_infer).parameters
    assert len(named) == len(set(named))


REFUSED = {
    "--max-tokens 0": {"max_tokens": 0},
    "--use twice": {"use": "twice"},
    "--only unread": {"only": "unread"},
    "--provider chat": {"provider": "chat"},
    "--generator openai": {"generator": "openai"},
    "--generator openai --provider local --scorer mine": {
        "generator": "openai",
        "provider": "local",
        "scorer": "mine",
    },
    "--budget -1": {"budget": -1},
    "--budget 5": {"budget": 5},
    "--limit 0": {"limit": 0},
    "--append-to base --votes 3": {"append_to": "base", "votes": 3},
}


@pytest.mark.parametrize("words", REFUSED)
def test_the_client_and_the_command_refuse_the_same_options_with_the_same_words(
    words: str, data: Path, votequeue: Command
) -> None:
    with pytest.raises(UserError) as refused:
        Client().enqueue_infer(data, **REFUSED[words])
    option, _, problem = str(refused.value).partition(": ")
    ended = votequeue("enqueue", "infer", data, *words.split())
    assert ended.code == 2
    said = " ".join(ended.err.replace("│", " ").split())
    assert f"Invalid value for {option}: {problem}" in said
    assert runs.list_runs() == []


def test_what_does_not_apply_to_recorded_votes_is_refused_by_both(
    answered: Client, votequeue: Command
) -> None:
    with pytest.raises(UserError, match=r"^--votes: the recorded votes of base are reused$"):
        answered.enqueue_infer("base", votes=3)
    with pytest.raises(UserError, match=r"^--dry-run: the recorded votes of base are reused$"):
        answered.forecast("base")
    assert votequeue("enqueue", "infer", "base", "--votes", 3).code == 2


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"vots": 3}, "did you mean votes"),
        ({"zzz": 3}, "there are: generator"),
        ({"redo_of": "r"}, "no such"),
        ({"dry_run": True}, "no such"),
    ],
)
def test_an_unknown_option_is_refused_with_the_known_ones(
    given: dict[str, Any], hint: str, data: Path
) -> None:
    with pytest.raises(UserError, match=hint):
        Client().enqueue_infer(data, **given)


def test_waiting_ends_at_the_time_out(data: Path) -> None:
    client = Client()
    client.enqueue_infer(data, run="slow")
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"run 'slow': 3 questions still open after 0\.2 s"):
        client.wait("slow", timeout=0.2, poll=0.05)
    assert time.monotonic() - begun < 5


def test_contents_that_a_command_refuses_are_refused(answered: Client, votequeue: Command) -> None:
    with pytest.raises(UserError, match="--fields: no 'odds' here; choose from: confidence"):
        answered.collect("base", "answers.jsonl", fields=["odds"])
    with pytest.raises(UserError, match="--fields: does not apply to --votes"):
        answered.collect("base", "votes.jsonl", fields=["support"], votes=True)
    with pytest.raises(UserError, match="--output: a file is needed for other options than wait"):
        answered.collect("base", votes=True)  # type: ignore[call-overload]
    with pytest.raises(UserError, match="no run"):
        answered.collect("nothing")
    assert votequeue("collect", "base", "-o", "answers.jsonl", "--fields", "odds").code == 2


def test_importing_the_package_imports_nothing_else() -> None:
    heavy = (
        "[name for name in ('pydantic', 'sqlalchemy', 'celery', 'producers.client') if name in sys.modules]"
    )
    code = f"import sys, producers; print({heavy}); from producers import Client; print(Client.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "producers.client"]
