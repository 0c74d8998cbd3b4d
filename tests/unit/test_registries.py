"""Plug points: one entry in a registry is all that a new one takes."""

import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any, get_args

import pytest

from producers import sample
from producers.commands import service_options
from producers.layouts import catalog
from producers.layouts.flat import Flat
from producers.layouts.types import Layout
from producers.puzzles import ranking
from producers.puzzles.families import FAMILIES
from producers.puzzles.languages import Language
from producers.puzzles.types import Puzzle
from producers.reports import revote
from shared import options, prompts, providers, settings, strategies, voting
from shared.dataset import Entry, Line, scan
from shared.errors import UserError
from shared.ledger import claims, outbox, runs
from shared.ledger.claims import Claim
from shared.ledger.models import Model
from shared.ledger.runs import Run
from shared.options import Augmentation, Sampling
from shared.prompts import PROMPTS, FewShotExample, PromptQuestion
from shared.providers import PROVIDERS, Limits, Provider
from shared.recipes import INPUTS, ScorerTraining
from shared.registry import Registry
from shared.strategies import STRATEGIES, Strategy
from shared.voting import SCORED, Outcome, Rule, Vote, VotingMode
from tests.conftest import Command
from tests.fakes import FakeLimiter
from tests.integration import run_fixtures
from workers import translate, wiring
from workers.augment.entry_builder import Augmented
from workers.augment.services import Services
from workers.gateway.gateway import Gateway
from workers.models import calibration, features
from workers.training.objectives import OBJECTIVES

ROOT = Path(__file__).parents[2]
MINE = Provider("mine", chat="tests.unit.test_registries:build", limits={"": Limits(per_second=3)})
QUIZ = Flat(name="quiz", question="q", options=("o",), answer="a", needs={"q": str, "o": list})
THEIRS = Provider("tencent", chat="tests.unit.test_registries:build")
RHYME = Strategy("rhyme", make="tests.unit.test_registries:rhyme", options={"share": 0.5}, prompt="1a2b3c4d")


def document(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def entry_point(name: str, place: str, group: str) -> importlib.metadata.EntryPoint:
    return importlib.metadata.EntryPoint(name, f"tests.unit.test_registries:{place}", group)


# Entries of installed packages


def test_a_package_may_bring_an_entry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = {
        providers.ENTRY_POINTS: entry_point("mine", "MINE", providers.ENTRY_POINTS),
        strategies.ENTRY_POINTS: entry_point("rhyme", "RHYME", strategies.ENTRY_POINTS),
    }
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [brought[group]])
    for group, kind, entry in (
        (providers.ENTRY_POINTS, Provider, MINE),
        (strategies.ENTRY_POINTS, Strategy, RHYME),
    ):
        registry: Registry[Any] = Registry(group, kind, [])
        assert registry[entry.name] == entry
        assert list(registry) == [entry.name]


def test_a_package_may_bring_a_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    brought = entry_point("quiz", "QUIZ", catalog.ENTRY_POINTS)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [brought])
    registry: Registry[Any] = Registry(catalog.ENTRY_POINTS, Layout, [])
    assert registry["quiz"] is QUIZ


def test_a_package_can_neither_replace_a_provider_nor_stop_a_command(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named = [
        entry_point("tencent", "THEIRS", providers.ENTRY_POINTS),
        entry_point("rhyme", "RHYME", providers.ENTRY_POINTS),
        importlib.metadata.EntryPoint("broken", "no.such.module:IT", providers.ENTRY_POINTS),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: named)
    registry = Registry(providers.ENTRY_POINTS, Provider, PROVIDERS.built_in.values())
    assert dict(registry) == PROVIDERS.built_in
    for name in ("broken", "rhyme"):
        assert f"provider {name} of an installed package cannot be loaded" in caplog.text


def test_packages_are_not_searched_before_a_name_is_not_ours() -> None:
    code = (
        "import importlib.metadata as metadata; ours = metadata.entry_points\n"
        "def entry_points(**wanted):\n"
        "    assert not wanted.get('group', '').startswith('votequeue.'), wanted\n"
        "    return ours(**wanted)\n"
        "metadata.entry_points = entry_points\n"
        "import producers.cli; from shared.providers import PROVIDERS; print(PROVIDERS['chat'].name)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.split() == ["chat"]


# Providers


def build(service: Any, _: settings.Settings) -> Any:
    """Build a client of the provider that a test adds."""
    return ("a client", service)


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=str)
def test_every_provider_has_a_client(provider: Provider) -> None:
    named = [place for place in (provider.chat, provider.translator) if place]
    assert named
    assert all(callable(pkgutil.resolve_name(place)) for place in named)


def test_a_provider_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROVIDERS.entries, "mine", MINE)
    chosen = service_options.reasoning("correct", None, "mine", ["m"], {})
    client, service = wiring.chat_model(chosen.provider, "m", settings.load())
    assert (client, service.limits.per_second) == ("a client", 3)


def test_an_unknown_provider_is_refused_rather_than_taken_for_another() -> None:
    with pytest.raises(
        UserError, match=r"provider 'mine' has no chat models; these have: local, chat, qianfan"
    ):
        wiring.chat_model("mine", "m", settings.load())
    with pytest.raises(UserError, match="provider 'mine'"):
        wiring.translator("mine", "m", settings.load())


# Augmentation strategies


def rhyme(services: Services, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
    """Make the entry of the strategy that a test adds."""
    assert services.gateway
    return Augmented({"id": f"{entry.id}~{options.strategy}"}, [], f"{options.share:g} of {claim.job.run}")


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=lambda strategy: strategy.name)
def test_every_strategy_has_its_options_its_makers_and_its_documents(
    strategy: Strategy, votequeue: Command
) -> None:
    chosen = Augmentation(strategy=strategy.name, **strategy.options)
    assert {name: getattr(chosen, name) for name in strategy.options} == strategy.options
    assert all(options.flag_of(Augmentation, name) for name in strategy.options)
    assert callable(pkgutil.resolve_name(strategy.make))
    # Who calls a service says beforehand what it costs.
    assert bool(strategy.workload) is bool(strategy.ability)
    if strategy.workload and strategy.ability:
        assert callable(pkgutil.resolve_name(strategy.workload))
        assert any(getattr(provider, strategy.ability) for provider in PROVIDERS.values())
    assert strategy.prompt in {None, *(template.digest for template in PROMPTS.values())}
    shown = votequeue("enqueue", "translate", "--help").out
    assert f"Strategy {strategy.name}" in shown
    assert f"- `--strategy {strategy.name}`: " in document("docs/data.md")
    assert all(strategy.name in document(name) for name in ("README.md", "README.zh.md"))


def test_every_option_of_augmentation_is_some_strategys() -> None:
    used = {name for strategy in STRATEGIES.values() for name in strategy.options}
    assert used == {name for name in Augmentation.model_fields if options.flag_of(Augmentation, name)}


@pytest.fixture
def rhyming(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add a strategy `rhyme`; give a data set of one entry."""
    monkeypatch.setitem(STRATEGIES.entries, "rhyme", RHYME)
    return run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AB"))


def test_a_strategy_is_one_entry_for_the_command_line(rhyming: Path, votequeue: Command) -> None:
    def told(*flags: str) -> str:
        ended = votequeue("enqueue", "translate", rhyming, "--strategy", "rhyme", "--dry-run", *flags)
        return " ".join((ended.out + ended.err).replace("│", " ").split())

    assert "would be enqueued: 1 entry" in told("--share", "0.3")
    assert "not used by strategy rhyme" in told("--seed", "3")
    assert "not used by strategy rhyme" in told("--provider", "chat")
    assert "the strategy rhyme costs nothing" in told("--budget", "3")


def test_a_strategy_is_one_entry_for_a_worker(rhyming: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = service_options.augmentation("rhyme", None, None, {})
    lines = [line for line in scan(rhyming) if isinstance(line, Line)]
    run = Run("more", "translate", "data.jsonl", "digest", None, chosen.model_dump(mode="json"))
    runs.open_run(run, lines, per_entry=True)
    (claim,) = claims.claim(outbox.unsent(10), "one", 60)
    monkeypatch.setattr(wiring, "gateway", lambda *_: Gateway(FakeLimiter()))
    augmenting = translate.Augmenting()
    made = augmenting.augment(claim)
    augmenting.close()
    assert (made.value["entry"], made.line) == ({"id": "p1~rhyme"}, "0.5 of more")


# Prompts


ASKED = PromptQuestion("题", "谁？", ("甲", "乙"))
SOLVED = FewShotExample(ASKED, "甲高。", "A")
RENDERED = {
    "explaining": lambda: prompts.explaining(ASKED, "A"),
    "translating": lambda: prompts.translating(["甲"], "zh", "ja"),
    "varying": lambda: prompts.varying(SOLVED),
}


def test_a_prompts_version_is_known_to_the_runs_of_older_ledgers() -> None:
    # These stand in ledgers: another wording is another version, the same wording is never one.
    assert {name: prompts.version(name) for name in PROMPTS} == {
        "explaining": "f9677755",
        "translating": "e7746d3a",
        "varying": "9fcbfed9",
    }


@pytest.mark.parametrize("name", PROMPTS)
def test_every_prompt_is_put_together_from_its_entry(name: str) -> None:
    rendered = RENDERED[name]()
    for piece in re.split(r"{\w+}", PROMPTS[name].text):
        assert piece.replace("{{", "{").replace("}}", "}") in rendered


# What a scorer reads, and what it learns


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_of_a_scorer_is_read_and_has_its_documents(name: str) -> None:
    texts = features.texts_of(ASKED, ["甲高。"], name)
    assert texts == (["A", "B"] if INPUTS[name].answers else ["甲高。"])
    assert {len(features.parts_of(ASKED, text, name)) for text in texts} == {features.parts(name)}
    assert f"`{name}`" in document("docs/training.md")


def test_inputs_and_objectives_are_those_that_a_recipe_may_name() -> None:
    fields = ScorerTraining.model_fields
    assert get_args(fields["input"].annotation) == tuple(INPUTS)
    assert get_args(fields["objective"].annotation) == tuple(OBJECTIVES)
    assert all(f"`{name}`" in document("docs/training.md") for name in OBJECTIVES)


# Puzzle families


def test_a_puzzle_family_is_one_entry(monkeypatch: pytest.MonkeyPatch, votequeue: Command) -> None:
    def make(rng: Random, difficulty: int, language: Language) -> Puzzle | None:
        return ranking.make(rng, difficulty, language)

    monkeypatch.setitem(FAMILIES, "mine", make)
    assert "mine" in {entry["family"] for entry in sample.generate(len(FAMILIES), 1)}
    drawn, known = (list(sample.generate(3, 1, 1, [name], True)) for name in ("mine", "ranking"))
    assert [entry["family"] for entry in drawn] == ["mine"] * 3
    assert [entry["problem"] for entry in drawn] == [entry["problem"] for entry in known]
    assert "mine" in votequeue("sample", "-n", 1, "--family", "other", "-o", "x.jsonl").err


# Voting modes


@pytest.mark.parametrize("mode", VotingMode, ids=str)
def test_a_voting_mode_is_decided_by_what_it_voids_and_weighs(mode: VotingMode) -> None:
    votes = [Vote("A", 0.9), Vote("B", 0.4), Vote("B", 0.4)]
    answer = voting.decide(votes, Rule(mode, 0.5))
    assert answer is not None
    assert answer.letter == ("A" if mode.voids or mode.weighs else "B")
    assert answer.support == (1 if mode.voids or mode.weighs else 2)
    ways = {True: Outcome.WEIGHTED, False: Outcome.MAJORITY if mode in SCORED else Outcome.UNSCORED}
    assert answer.how is ways[mode.weighs]
    assert (voting.decide(votes, Rule(mode, 0.95)) is None) is mode.voids


@pytest.mark.parametrize("mode", VotingMode, ids=str)
def test_every_voting_mode_is_an_option_and_has_its_documents(mode: VotingMode, votequeue: Command) -> None:
    assert Sampling(use=mode).use is mode
    shown = " ".join(votequeue("enqueue", "infer", "--help").out.replace("│", " ").split())
    assert f"{mode} ({mode.meaning})" in shown
    assert f"\n| `{mode}` | " in document("docs/training.md")


def test_every_voting_mode_is_calibrated_and_counted_again() -> None:
    model = Model("s1", "scorer", "r", "b", "s", "d", {}, "0", {}, voting.GATE)
    assert {tally.name for tally in revote._tallies(model, weighs=False)} == set(VotingMode)
    assert set(calibration.USES) == set(SCORED) == set(VotingMode) - {VotingMode.MAJORITY}
