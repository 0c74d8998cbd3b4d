"""List trained models and change which is in use.

    listed()  ->  [ListedModel(Model("scorer-3f9c01ab12cd", "scorer", ...), in_use=True, here=True)]

A decision holds for the runs that are enqueued from then on, and for those that follow.
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

NOTHING = {f"no-{kind}": kind for kind in KINDS}  # what `use` takes to use none of a kind


@dataclass(frozen=True)
class ListedModel:
    """A model, whether it is in use, and whether its files are below this machine's folder (``here``)."""

    model: Model
    in_use: bool
    here: bool

    def as_dict(self) -> dict[str, Any]:
        """Give all that is known of the model, flat, for programs."""
        facts = dict(vars(self.model))
        rule, created_at = facts.pop("rule"), facts.pop("created_at")
        use, threshold = (rule.use, rule.threshold) if rule else (None, None)
        decided = {"use": use, "threshold": threshold, "in_use": self.in_use, "here": self.here}
        return {**facts, **decided, "created_at": created_at}


@dataclass(frozen=True)
class Decision:
    """What is in use from now on, and what was before; ``here`` says whether this machine has its files."""

    kind: str
    model: str | None
    before: str | None
    here: bool


def listed() -> list[ListedModel]:
    """List all models, oldest first."""
    used = [_name_of(models.in_use(kind)) for kind in KINDS]
    return [ListedModel(model, model.name in used, _is_here(model)) for model in models.every()]


def find(name: str) -> ListedModel:
    """Look a model up by its name, or by a beginning that only it has.

    Raises:
        UserError: there is none, or there are several.
    """
    model = models.get(name)
    return ListedModel(model, model.name == _name_of(models.in_use(model.kind)), _is_here(model))


def _name_of(model: Model | None) -> str | None:
    return model.name if model else None


def _is_here(model: Model) -> bool:
    return (settings.load().trained_folder / model.name).is_dir()


def use(name: str) -> Decision:
    """Let a model be used from now on, or none of a kind (``no-scorer``, ``no-lora``).

    Raises:
        UserError: there is no such model, or its files are not whole.
    """
    model = None if name in NOTHING else models.get(name)
    kind: Kind = NOTHING[name] if model is None else model.kind
    here = model is None or _is_here(model)
    if model is not None and here:
        model_store.checked(kind, model.name, settings.load().trained_folder)
    before, now = _name_of(models.in_use(kind)), _name_of(model)
    with engine.writing() as connection:
        models.promote(connection, kind, now, "a person said so")
    return Decision(kind, now, before, here)


def add_lora(folder: Path) -> ListedModel:
    """Register a LoRA adapter that was trained elsewhere: its files are copied.

    Raises:
        UserError: the folder holds none.
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
