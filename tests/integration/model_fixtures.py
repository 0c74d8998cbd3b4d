"""Models put into the registry by hand, as a training would."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from shared import model_store, settings
from shared.ledger import engine, models, schema
from shared.ledger.models import Model
from shared.model_store import Kind
from shared.voting import GATE, Rule


def put(
    name: str = "s1",
    kind: Kind = "scorer",
    rule: Rule | None = GATE,
    *,
    promoted: bool = True,
    problems: Iterable[str] = (),
    reads: str = "reasoning",
    level: float = 0.05,
    **metrics: Any,
) -> str:
    """Register a model, and let it be in use; give its name."""
    own = rule if kind == "scorer" else None
    options = {"seed": 42, "input": reads, "promotion_level": level}
    model = Model(name, kind, "judge", "base", "votes of r", "digest", options, "0.1.0", metrics, own)
    with engine.writing() as connection:
        models.add(connection, model, problems)
        if promoted:
            models.promote(connection, kind, name, "a test said so")
    return name


def take_away(kind: Kind = "scorer") -> None:
    """Let no model of a kind be in use any more."""
    with engine.writing() as connection:
        models.promote(connection, kind, None, "a test said so")


def history(kind: Kind) -> list[tuple[str | None, str]]:
    """Tell which models of a kind came into use and why, oldest first."""
    rows = schema.promotions.c
    query = sa.select(rows.model, rows.reason).where(rows.kind == kind).order_by(rows.id)
    with engine.reading() as connection:
        return [(row.model, row.reason) for row in connection.execute(query)]


def file(kind: Kind = "scorer", weights: bytes = b"weights") -> str:
    """Put a model's files where models are used from; give the name that its content gives it."""
    made = settings.load().trained_folder / ".making"
    made.mkdir(parents=True)
    (made / ("model.safetensors" if kind == "scorer" else "adapter_model.safetensors")).write_bytes(weights)
    (made / ("config.json" if kind == "scorer" else "adapter_config.json")).write_text("{}")
    model_store.describe(made, {"kind": kind})
    name = model_store.name_of(kind, made)
    made.rename(made.with_name(name))
    return name


def folder(name: str) -> Path:
    """Give a model's folder."""
    return settings.load().trained_folder / name
