"""Recipes: the files that come with votequeue, and those of a person."""

from pathlib import Path

import pytest

from shared import recipes
from shared.errors import UserError
from shared.recipes import LoraTraining, ScorerTraining
from tests.conftest import Command


def write(folder: Path, *changes: str, without: str | None = None) -> str:
    """Write a recipe like `reference`, with some lines changed or added and one left out."""
    source = Path(recipes.__file__).with_name("reference.toml").read_text("utf-8")
    keys = [change.partition(" ")[0] for change in changes] + [without]
    lines = [line for line in source.splitlines() if line.partition(" ")[0] not in keys]
    path = folder / "mine.toml"
    path.write_text("\n".join([*lines, *changes]), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "model"), [("verifier", ScorerTraining), ("reference", ScorerTraining), ("lora", LoraTraining)]
)
def test_a_recipe_has_a_value_for_every_option_or_none(
    name: str, model: type[ScorerTraining] | type[LoraTraining]
) -> None:
    values = recipes.load(name, model)
    assert model.model_validate({**values, "base": "b", "report_to": ()}).recipe == name


def test_a_file_of_ones_own_is_a_recipe(tmp_path: Path) -> None:
    mine = write(tmp_path, "layers = 6")
    values = recipes.load(mine, ScorerTraining)
    assert (values["layers"], values["recipe"], values["optimizer"]) == (6, mine, "lomo")


@pytest.mark.parametrize(
    ("change", "without", "said"),
    [
        ("epochs = 0", None, r"mine\.toml: epochs = 0: .*greater than 0"),
        ('tune = "some"', None, r"mine\.toml: tune = 'some': .*'all', 'lora' or 'head'"),
        ("epoch = 3", None, r"mine\.toml: 'epoch' is not a key of this recipe"),
        ('report_to = ["wandb"]', None, r"mine\.toml: 'report_to' is not a key of this recipe"),
        ('recipe = "other"', None, r"mine\.toml: 'recipe' is not a key of this recipe"),
        ("layers = 6", "seed", r"mine\.toml: 'seed' is missing"),
        ("epochs = = 3", None, r"mine\.toml is not TOML: "),
    ],
)
def test_what_does_not_fit_is_said_with_file_and_key(
    change: str, without: str | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=said):
        recipes.load(write(tmp_path, change, without=without), ScorerTraining)


def test_a_recipe_of_another_kind_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"recipe 'lora': there are verifier, reference"):
        recipes.load("lora", ScorerTraining)
    with pytest.raises(UserError, match=r"mine\.toml: 'input' is not a key of this recipe"):
        recipes.load(write(tmp_path), LoraTraining)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml"):
        recipes.load(str(tmp_path / "nowhere.toml"), ScorerTraining)


def test_help_says_where_each_default_comes_from(votequeue: Command) -> None:
    for command, recipe in (("scorer", "verifier"), ("lora", "lora")):
        shown = " ".join(votequeue("enqueue", "train", command, "--help").out.replace("│", " ").split())
        assert f"a TOML file of your own [default: ({recipe})]" in shown
        assert "weights to start from [default: (VOTEQUEUE_MODEL)]" in shown
        assert "peak learning rate [default: (the recipe's)]" in shown
