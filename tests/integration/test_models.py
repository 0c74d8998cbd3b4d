"""The registry of models and its commands, on both kinds of ledger."""

import json
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.ledger import models, runs
from shared.voting import GATE, Rule, VotingMode
from tests.conftest import Command
from tests.integration import model_fixtures

pytestmark = pytest.mark.usefixtures("any_ledger")


def names() -> list[str]:
    return [model.name for model in models.every()]


def used(kind: str = "scorer") -> str | None:
    found = models.in_use("lora" if kind == "lora" else "scorer")
    return found.name if found else None


def test_of_each_kind_one_is_in_use_or_none() -> None:
    assert (used(), used("lora")) == (None, None)
    model_fixtures.put("s1")
    model_fixtures.put("l1", "lora")
    assert (used(), used("lora")) == ("s1", "l1")
    model_fixtures.put("s2")
    assert (used(), used("lora")) == ("s2", "l1")
    model_fixtures.take_away()
    assert (used(), used("lora")) == (None, "l1")
    assert model_fixtures.history("scorer") == [
        ("s1", "a test said so"),
        ("s2", "a test said so"),
        (None, "a test said so"),
    ]


def test_a_model_that_was_not_promoted_changes_nothing() -> None:
    model_fixtures.put("s1")
    model_fixtures.put("s2", promoted=False)
    assert used() == "s1"
    assert names() == ["s1", "s2"]


def test_all_that_is_known_of_a_model_comes_back() -> None:
    model_fixtures.put("s1", rule=Rule(VotingMode.GATE_WEIGHTED, 0.42), problems=["p", "q", "p"], auc=0.73)
    found = models.get("s1")
    assert found.rule == Rule(VotingMode.GATE_WEIGHTED, 0.42)
    assert (found.metrics, found.options, found.run, found.source) == (
        {"auc": 0.73},
        {"seed": 42, "input": "reasoning", "promotion_level": 0.05},
        "judge",
        "votes of r",
    )
    assert found.created_at > 0
    assert models.problems("s1") == {"p", "q"}
    assert models.problems("s2") == set()
    model_fixtures.put("l1", "lora")
    assert models.get("l1").rule is None


def test_the_same_files_again_are_the_same_model() -> None:
    for _ in range(2):
        model_fixtures.put("s1", problems=["p"])
    assert names() == ["s1"]
    assert models.problems("s1") == {"p"}


def test_a_model_is_found_by_a_beginning_that_only_it_has() -> None:
    model_fixtures.put("scorer-3f9c01ab12cd")
    model_fixtures.put("scorer-3f0000000000")
    assert models.get("scorer-3f9").name == "scorer-3f9c01ab12cd"
    with pytest.raises(
        UserError, match="'scorer-3f' is ambiguous, it may be scorer-3f9c01ab12cd or scorer-3f00"
    ):
        models.get("scorer-3f")
    with pytest.raises(UserError, match="no lora is called 'scorer-3f9'; there are: none yet"):
        models.get("scorer-3f9", "lora")
    with pytest.raises(UserError, match="no model is called ''; there are: scorer-3f"):
        models.get("")


def test_a_run_chooses_the_one_in_use_none_or_one_by_name() -> None:
    model_fixtures.put("s1")
    model_fixtures.put("s2")
    chosen = [models.chosen("scorer", wanted) for wanted in ("in-use", "none", "s1")]
    assert [model and model.name for model in chosen] == ["s2", None, "s1"]


# The commands


def test_no_models_are_said_to_be_none(votequeue: Command) -> None:
    assert votequeue("models").out.startswith("no models yet: `votequeue enqueue train scorer`")
    assert votequeue("models", "--json").out == "[]\n"


def test_the_list_says_what_is_in_use_what_it_is_worth_and_whether_it_is_here(votequeue: Command) -> None:
    here = model_fixtures.file()
    answers = {"questions": 100, "majority": 0.46, "best": 0.52}
    model_fixtures.put(here, rule=Rule(VotingMode.GATE, 0.42), auc=0.731, answers=answers)
    model_fixtures.put("s2", rule=Rule(VotingMode.WEIGHTED, 0.0), promoted=False)
    lines = votequeue("models").out.splitlines()[1:]
    assert lines[0].startswith(f"*  {here}")
    assert "AUC 0.731, 52.0 % right (majority 46.0 %)" in lines[0]
    assert "gate from 0.42" in lines[0]
    assert not lines[1].startswith("*")
    assert "weighted" in lines[1]
    assert "its files are not on this machine" in lines[1]
    told = json.loads(votequeue("models", "--json").out)
    assert [(one["name"], one["in_use"], one["here"]) for one in told] == [
        (here, True, True),
        ("s2", False, False),
    ]


def test_a_person_promotes_and_rolls_back(votequeue: Command) -> None:
    old, new = model_fixtures.file(weights=b"old"), model_fixtures.file(weights=b"new")
    model_fixtures.put(old)
    model_fixtures.put(new, promoted=False)
    assert votequeue("models", "use", new).out == f"scorer in use from now on: {new} (before: {old})\n"
    assert used() == new
    assert votequeue("models", "use", old[:10]).out == f"scorer in use from now on: {old} (before: {new})\n"
    assert used() == old
    assert votequeue("models", "use", "no-scorer").out == f"scorer in use from now on: none (before: {old})\n"
    assert used() is None


def test_what_is_not_whole_is_not_put_to_use(votequeue: Command) -> None:
    name = model_fixtures.put(model_fixtures.file(), promoted=False)
    (model_fixtures.folder(name) / "model.safetensors").write_bytes(b"cut")
    ended = votequeue("models", "use", name)
    assert (ended.code, used()) == (1, None)
    assert "is not what was trained" in ended.err


def test_a_machine_without_the_files_may_decide_too_and_is_told(votequeue: Command) -> None:
    model_fixtures.put("s1", promoted=False)
    ended = votequeue("models", "use", "s1")
    assert (ended.code, used()) == (0, "s1")
    assert "the files of s1 are not on this machine: the workers must have them" in ended.err


def test_one_model_is_told_in_full(votequeue: Command) -> None:
    model_fixtures.put("s1", rule=GATE, auc=0.7)
    shown = votequeue("models", "show", "s1").out
    for words in ("by run", "judge", "votes of r", "options.seed", "metrics.auc", "gate from 0.50", "in use"):
        assert words in shown
    assert json.loads(votequeue("models", "show", "s1", "--json").out)["metrics"] == {"auc": 0.7}


def test_an_adapter_from_elsewhere_is_registered_and_used_by_name(home: Path, votequeue: Command) -> None:
    folder = home / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen", "r": 8}')
    name = votequeue("models", "add", folder).out.strip()
    assert name.startswith("lora-")
    assert votequeue("models", "add", folder).out.strip() == name
    assert {path.name for path in model_fixtures.folder(name).iterdir()} == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "votequeue.json",
    }
    assert models.get(name).base == "Qwen"
    assert used("lora") is None
    assert votequeue("models", "use", name).code == 0
    assert used("lora") == name


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_folder_that_holds_no_adapter_is_refused(file: str, home: Path, votequeue: Command) -> None:
    folder = home / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen", "r": 8}')
    (folder / file).unlink()
    ended = votequeue("models", "add", folder)
    assert (ended.code, names()) == (1, [])
    assert f"{folder} holds no LoRA adapter" in ended.err


def test_a_run_that_names_a_model_which_is_none_is_not_enqueued(home: Path, votequeue: Command) -> None:
    from tests.integration import run_fixtures

    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1"))
    for option in ("--scorer", "--lora"):
        ended = votequeue("enqueue", "infer", data, option, "nobody")
        assert (ended.code, runs.list_runs()) == (1, [])
        assert f"no {option[2:]} is called 'nobody'" in ended.err
