"""What a run was enqueued with, and what made each of its votes: pinned, recorded, shown.

run_fixtures.infer(data, sampling)  ->  runs.options {"model": ..., "prompt": ..., "scorer": "s1", ...}
"""

import asyncio
import json
from pathlib import Path

import pytest

from shared import prompt_files, settings
from shared.errors import UserError
from shared.jobs import Infer
from shared.ledger import claims, models, runs, votes
from shared.ledger.models import GeneratorIdentity
from shared.options import Sampling
from shared.prompts import FewShotExample, PromptQuestion
from tests import fakes
from tests.conftest import Command
from tests.fakes import FakeGenerator, FakeScorer
from tests.integration import model_fixtures, run_fixtures
from workers.inference.rounds import Rounds

SAMPLING = Sampling(votes=2, max_attempts=2)


@pytest.fixture(autouse=True)
def _broker(on_broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a broker that answers, and a model that is set."""
    monkeypatch.setenv("VOTEQUEUE_MODEL", "own/weights")
    settings.load.cache_clear()


@pytest.fixture
def data(home: Path) -> Path:
    """Have a data set of two questions."""
    return run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))


class LastExamples:
    """Retrieves the last examples of a data set, the very last first."""

    def nearest(
        self, digest: str, asked: list[PromptQuestion], count: int, same_problem: bool, run: str
    ) -> list[list[FewShotExample]]:
        """Give them to every question."""
        return [runs.load_examples(digest)[::-1][:count] for _ in asked]


class Weights(FakeGenerator):
    """The fake generator under the name of the settings' model."""

    @property
    def identity(self) -> GeneratorIdentity:
        """Have it."""
        return GeneratorIdentity(settings.load().model, "f00d", "script 1.2")


def options(run: str) -> dict[str, object]:
    """Give what a run was enqueued with, as far as models and prompt are concerned."""
    recorded = runs.get_run(run).options
    return {name: recorded[name] for name in ("model", "prompt", "scorer", "lora")}


def test_a_run_keeps_the_models_that_were_in_use_when_it_was_enqueued(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_fixtures.put("s1")
    first = run_fixtures.infer(data, SAMPLING)
    pinned = {
        "model": settings.load().model,
        "prompt": prompt_files.built_in("zh").digest,
        "scorer": "s1",
        "lora": "none",
    }
    assert options(first.run) == pinned
    model_fixtures.put("s2")
    model_fixtures.put("l1", "lora")
    again = run_fixtures.infer(data, SAMPLING)
    assert (again.run, again.continued, options(first.run)) == (first.run, True, pinned)
    said = capsys.readouterr().err
    assert f"run {first.run} keeps its pinned scorer: s1" in said
    assert "keeps its pinned lora: none" in said


def test_without_a_model_in_the_settings_any_workers_model_answers(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOTEQUEUE_MODEL")
    settings.load.cache_clear()
    run_fixtures.infer(data, SAMPLING, "r")
    assert options("r")["model"] is None
    rounds = Rounds(FakeGenerator(), FakeScorer(), lambda _: fakes.FakeRetriever())
    [outcome] = asyncio.run(rounds.run(claims.claim([Infer(run="r", item=0)], "one", 60)))
    assert str(outcome).startswith("A: ")
    monkeypatch.setenv("VOTEQUEUE_MODEL", "own/weights")
    settings.load.cache_clear()
    assert run_fixtures.infer(data, SAMPLING, "r").continued


def test_to_follow_what_is_in_use_is_said_in_the_record(data: Path) -> None:
    model_fixtures.put("s1")
    done = run_fixtures.infer(data, SAMPLING.model_copy(update={"scorer": "follow", "lora": "follow"}))
    assert [options(done.run)[kind] for kind in ("scorer", "lora")] == ["follow", "follow"]
    model_fixtures.put("s2")
    assert models.chosen("scorer", "follow") == models.in_use("scorer")


def test_a_model_is_recorded_by_its_full_name_and_an_unknown_one_refused(data: Path) -> None:
    model_fixtures.put("scorer-123456")
    wanted = SAMPLING.model_copy(update={"scorer": "scorer-12"})
    assert options(run_fixtures.infer(data, wanted, "r").run)["scorer"] == "scorer-123456"
    assert run_fixtures.infer(data, wanted, "r").continued
    model_fixtures.put("s2")
    with pytest.raises(UserError, match="its scorer is scorer-123456, not s2"):
        run_fixtures.infer(data, SAMPLING.model_copy(update={"scorer": "s2"}), "r")
    with pytest.raises(UserError, match="no lora is called"):
        run_fixtures.infer(data, SAMPLING.model_copy(update={"lora": "l9"}), "q")
    assert runs.find_run("q") is None


def test_a_run_is_not_continued_with_another_model_or_prompt(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    with pytest.raises(
        UserError, match=r"its prompt is [0-9a-f]{64}, not [0-9a-f]{64}: choose another name with --run"
    ):
        run_fixtures.infer(data, SAMPLING.model_copy(update={"prompt": "en"}), "r")
    monkeypatch.setenv("VOTEQUEUE_MODEL", "other/weights")
    settings.load.cache_clear()
    with pytest.raises(UserError, match=r"its model is .*, not other/weights"):
        run_fixtures.infer(data, SAMPLING, "r")


def test_trace_shows_the_exact_prompt_and_report_the_models(
    data: Path, home: Path, votequeue: Command
) -> None:
    model_fixtures.put("s1")
    solved = run_fixtures.write(home / "solved.jsonl", *(run_fixtures.solved(f"s{at}") for at in range(4)))
    run_fixtures.infer(data, SAMPLING, "r", str(solved))
    generator = Weights(otherwise=["因为甲高。\n答案是：A", "我不知道。"])
    models.add_generator(generator.identity)
    rounds = Rounds(generator, FakeScorer(lambda _, text: 0.9), lambda _: LastExamples())
    asyncio.run(rounds.run(claims.claim([Infer(run="r", item=0)], "one", 60)))
    [request] = generator.requests
    shown = votequeue("trace", "r", "p1#1").out
    quoted = "\n".join(f"  | {line}" for line in request.prompt.split("\n"))
    assert quoted in shown
    model = settings.load().model
    assert f"  generator: {model} (weights f00d, script 1.2), adapter: none" in shown
    assert "  examples shown: number 3, number 2" in shown
    assert "sampling: votes 2, temperature 0.7, top_p 1.0, max_tokens 1024, seed None" in shown
    assert "finish reason stop, mean log-probability -0.250, scorer s1" in shown
    told = json.loads(votequeue("trace", "r", "p1#1", "--json").out)["rounds"][0]
    assert (told["prompt"], told["examples"]) == (request.prompt, [3, 2])
    assert told["generator"] == {"model": model, "weights": "f00d", "engine": "script 1.2"}
    report = votequeue("report", "r").out
    assert "2 votes sampled by" in report
    assert f"{model} (weights f00d, script 1.2), scorer s1" in report


def test_a_prompt_of_another_version_is_not_guessed(
    data: Path, monkeypatch: pytest.MonkeyPatch, votequeue: Command
) -> None:
    run_fixtures.infer(data, SAMPLING, "r")
    rounds = Rounds(Weights(), FakeScorer(), lambda _: fakes.FakeRetriever())
    asyncio.run(rounds.run(claims.claim([Infer(run="r", item=0)], "one", 60)))
    monkeypatch.setattr(prompt_files.built_in("zh"), "head", "另一个开头。\n")
    shown = votequeue("trace", "r", "p1#1").out
    assert "another version of votequeue built it" in shown
    assert "generator: unknown" in shown


def test_votes_that_are_judged_again_keep_what_they_were_sampled_from(data: Path) -> None:
    source = run_fixtures.infer(data, SAMPLING, "r").run
    generator = Weights()
    rounds = Rounds(generator, FakeScorer(), lambda _: fakes.FakeRetriever())
    asyncio.run(rounds.run(claims.claim([Infer(run=source, item=at) for at in (0, 1)], "one", 60)))
    again = SAMPLING.model_copy(update={"votes_of": source, "scorer": "none"})
    run_fixtures.infer(data, again, "again")
    asyncio.run(rounds.run(claims.claim([Infer(run="again", item=0)], "one", 60)))
    assert len(generator.requests) == 2
    assert votes.sampled_rounds("again", 0) == votes.sampled_rounds(source, 0)
    assert len(votes.sampled_rounds("again", 0)) == 1
