"""The registry of trained models: what each was made from, and which is in use.

    in_use("scorer")  ->  Model("scorer-3f9c01ab12cd", "scorer", run="judge", rule=Rule(GATE, 0.42), ...)

A model's files are a folder of its name, under the folder of trained models; its name is made from their
content. What is not registered is used by nobody, however complete its folder may be.
"""

import difflib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from shared.errors import UserError
from shared.ledger import engine, schema
from shared.model_store import Kind
from shared.voting import GATE, Rule, VotingMode

# What stands for a model where one is named: no model, the one that is in use when a run is enqueued (in the
# record of a run from before revision 3: as `FOLLOW`), the one that is in use when a batch begins.
NONE, IN_USE, FOLLOW = "none", "in-use", "follow"

models, learned, promotions = schema.models.c, schema.learned.c, schema.promotions.c


@dataclass(frozen=True)
class Model:
    """A trained model; ``rule`` is a scorer's: how its scores are best used, as its held-out part says."""

    name: str
    kind: Kind
    run: str
    base: str
    source: str
    digest: str
    options: dict[str, Any]
    code: str
    metrics: dict[str, Any]
    rule: Rule | None
    created_at: float = 0.0

    def threshold(self, use: VotingMode) -> float:
        """Give the threshold that suits a use, as the held-out part says."""
        best = self.rule or GATE
        return float(self.metrics.get("thresholds", {}).get(use, best.threshold))


@dataclass(frozen=True)
class GeneratorIdentity:
    """What samples votes: a model by name, its weights (hub revision or digest), engine and version."""

    model: str
    weights: str
    engine: str

    @property
    def name(self) -> str:
        """Name it by a digest of the rest."""
        return hashlib.sha256("\0".join((self.model, self.weights, self.engine)).encode()).hexdigest()[:16]


@engine.retried
def add_generator(generator: GeneratorIdentity) -> None:
    """Register what samples votes, once."""
    with engine.writing() as connection:
        row: dict[str, object] = {"name": generator.name, **generator.__dict__}
        engine.insert_missing(connection, schema.generators, [row])


def add(connection: sa.Connection, model: Model, problems: Iterable[str]) -> None:
    """Register a model, with the `dataset.identity` of each problem it was trained on.

    The same files again, as from a training that was interrupted at its very end, are the same model.
    """
    row = {
        name: value
        for name, value in model.__dict__.items()
        if name in schema.models.columns and name != "created_at"
    }
    rule = {"use": model.rule.use, "threshold": model.rule.threshold} if model.rule else {}
    stamp = {"created_at": engine.now(connection)}
    engine.insert_missing(connection, schema.models, [{**row, **rule, **stamp}])
    for chunk in engine.chunks(sorted(set(problems))):
        rows: list[dict[str, object]] = [{"model": model.name, "problem": problem} for problem in chunk]
        engine.insert_missing(connection, schema.learned, rows)


def promote(connection: sa.Connection, kind: Kind, name: str | None, reason: str) -> None:
    """Let a model, or none, be the one of its kind that is in use from now on."""
    row = {"kind": kind, "model": name, "reason": reason, "promoted_at": engine.now(connection)}
    connection.execute(schema.promotions.insert().values(**row))


def in_use(kind: Kind) -> Model | None:
    """Give the model of a kind that is in use; ``None`` where none is."""
    last = sa.select(promotions.model).where(promotions.kind == kind).order_by(promotions.id.desc()).limit(1)
    query = sa.select(schema.models).where(models.name == last.scalar_subquery())
    with engine.reading() as connection:
        row = connection.execute(query).one_or_none()
    return _model(row) if row else None


def chosen(kind: Kind, wanted: str) -> Model | None:
    """Give the model that ``wanted`` names: by name, the one in use (`IN_USE`, `FOLLOW`), or `NONE`.

    Raises:
        UserError: there is no such model.
    """
    if wanted == NONE:
        return None
    return in_use(kind) if wanted in (IN_USE, FOLLOW) else get(wanted, kind)


def pinned(kind: Kind, wanted: str) -> str:
    """Give the full name of the model that ``wanted`` names now, or `NONE`; `FOLLOW` stays what it is.

    Raises:
        UserError: there is no such model.
    """
    model = chosen(kind, wanted)
    return FOLLOW if wanted == FOLLOW else model.name if model else NONE


def get(name: str, kind: Kind | None = None) -> Model:
    """Look a model up by its name, or by a beginning that only it has.

    Raises:
        UserError: there is none, or there are several; the message names them.
    """
    known = [model for model in every() if kind in (None, model.kind)]
    found = [model for model in known if model.name == name] or [
        model for model in known if name and model.name.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    names = [model.name for model in found or known]
    if found:
        raise UserError(f"{name!r} may be {' or '.join(names)}: say more of its name")
    close = difflib.get_close_matches(name, names, n=3) or names[-3:]
    what = kind or "model"
    raise UserError(f"no {what} is called {name!r}; there are: {', '.join(close) or 'none yet'}")


def every() -> list[Model]:
    """List all models, oldest first."""
    with engine.reading() as connection:
        rows = connection.execute(sa.select(schema.models).order_by(models.created_at, models.name))
        return [_model(row) for row in rows]


def problems(name: str) -> set[str]:
    """Give the `dataset.identity` of each problem that a model was trained on."""
    query = sa.select(learned.problem).where(learned.model == name)
    with engine.streaming() as connection:
        return set(connection.scalars(query))


def _model(row: sa.Row[Any]) -> Model:
    values = dict(row._mapping)
    use, threshold = values.pop("use"), values.pop("threshold")
    return Model(**values, rule=Rule(VotingMode(use), threshold) if use else None)
