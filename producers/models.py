"""List trained models and select the model in use.

    listed()  ->  [ListedModel(Model("scorer-3f9c01ab12cd", "scorer", ...), in_use=True, here=True)]

A selection applies to runs enqueued later, and to runs with `--scorer follow` or `--lora follow`.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import file_permissions, model_store, settings, text_files
from shared.errors import UserError
from shared.ledger import engine, models
from shared.ledger.models import Model
from shared.model_store import KINDS, Kind

NOTHING = {f"no-{kind}": kind for kind in KINDS}  # arguments of `use` that deselect a kind


@dataclass(frozen=True)
class ListedModel:
    """A model, whether it is in use, and whether its files are on this machine (``here``)."""

    model: Model
    in_use: bool
    here: bool

    def as_dict(self) -> dict[str, Any]:
        """Return all facts about the model as a flat dict."""
        facts = dict(vars(self.model))
        rule, created_at = facts.pop("rule"), facts.pop("created_at")
        use, threshold = (rule.use, rule.threshold) if rule else (None, None)
        decided = {"use": use, "threshold": threshold, "in_use": self.in_use, "here": self.here}
        return {**facts, **decided, "created_at": created_at}


@dataclass(frozen=True)
class Decision:
    """The model in use from now on, and the one before; ``here``: its files are on this machine."""

    kind: str
    model: str | None
    before: str | None
    here: bool


def listed() -> list[ListedModel]:
    """List all models, oldest first."""
    used = [_name_of(models.in_use(kind)) for kind in KINDS]
    return [ListedModel(model, model.name in used, _is_here(model)) for model in models.every()]


def find(name: str) -> ListedModel:
    """Look up a model by its name or a unique prefix.

    Raises:
        UserError: no model matches, or several do.
    """
    model = models.get(name)
    return ListedModel(model, model.name == _name_of(models.in_use(model.kind)), _is_here(model))


def _name_of(model: Model | None) -> str | None:
    return model.name if model else None


def _is_here(model: Model) -> bool:
    return (settings.load().trained_folder / model.name).is_dir()


def use(name: str, reason: str = "a person said so") -> Decision:
    """Select the model in use, or none of a kind (``no-scorer``, ``no-lora``); record why.

    Raises:
        UserError: there is no such model, or its files are incomplete.
    """
    model = None if name in NOTHING else models.get(name)
    kind: Kind = NOTHING[name] if model is None else model.kind
    here = model is None or _is_here(model)
    if model is not None and here:
        model_store.checked(kind, model.name, settings.load().trained_folder)
    before, now = _name_of(models.in_use(kind)), _name_of(model)
    with engine.writing() as connection:
        models.promote(connection, kind, now, reason)
    return Decision(kind, now, before, here)


def add_lora(folder: Path) -> ListedModel:
    """Register a LoRA adapter that was trained elsewhere; its files are copied.

    Raises:
        UserError: the folder holds no adapter.
    """
    try:
        adapter_config = text_files.read_object(folder / "adapter_config.json")
        base = str(adapter_config["base_model_name_or_path"])
        weights = folder / "adapter_model.safetensors"
        weights.stat()
    except (UserError, OSError, KeyError) as error:
        raise UserError(
            f"{folder} holds no LoRA adapter (adapter_config.json, adapter_model.safetensors): {error}"
        ) from None
    trained = settings.load().trained_folder
    file_permissions.make_folder(trained)
    masked = file_permissions.masked(settings.load().trained_mask)
    with masked, tempfile.TemporaryDirectory(dir=trained, prefix=".adding-") as workspace:
        copy = Path(workspace) / "adapter"
        copy.mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copyfile(folder / name, copy / name)
        model_store.describe(copy, {"kind": "lora", "base": base, "added_from": folder.name})
        name = model_store.name_of("lora", copy)
        if not (trained / name).exists():
            copy.rename(trained / name)
    model = Model(name, "lora", "", base, f"added from {folder}", name, adapter_config, "", {}, None)
    with engine.writing() as connection:
        models.add(connection, model, ())
    return find(name)
