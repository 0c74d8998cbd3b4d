"""The registry of trained models: their sources, and which models are in use.

    in_use("scorer")  ->  Model("scorer-3f9c01ab12cd", "scorer", run="judge", rule=Rule(GATE, 0.42), ...)

A model's files are in a folder of its name, in the folder of trained models; the name is a digest of their
content. A model that is not registered is never used.
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
from shared.options import Sampling
from shared.voting import GATE, Rule, VotingMode

# Reserved names: no model; the model in use when a run is enqueued (in records before revision 3: the
# same as `FOLLOW`); the model in use when a batch begins.
NONE, IN_USE, FOLLOW = "none", "in-use", "follow"

SWITCHED_OFF = "switched off:"  # begins the reason if a test has put none in use

models, model_problems, promotions = schema.models.c, schema.model_problems.c, schema.promotions.c


@dataclass(frozen=True)
class Model:
    """A trained model; ``rule`` is a scorer's: the best use of its scores on the held-out part."""

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
        """Give the threshold that was best for a use on the held-out part."""
        best = self.rule or GATE
        return float(self.metrics.get("thresholds", {}).get(use, best.threshold))

    def weighing(self, sampling: Sampling) -> Sampling:
        """Add to a run's options what a scorer has learned that votes of each kind count.

        What the run has learned itself, with ``weights_from`` or as a combination, takes precedence.
        """
        names: tuple[str, ...] = ("kind_weights", "agreement")
        learned = {name: self.metrics[name] for name in names if name in self.metrics}
        if not learned or sampling.kind_weights is not None or sampling.combined_runs:
            return sampling
        return sampling.model_copy(update=learned)


@dataclass(frozen=True)
class GeneratorIdentity:
    """A generator: the model's name, its weights (hub revision or digest), the engine and its version."""

    model: str
    weights: str
    engine: str

    @property
    def name(self) -> str:
        """Give its name: a digest of the other fields."""
        return hashlib.sha256("\0".join((self.model, self.weights, self.engine)).encode()).hexdigest()[:16]


@engine.retried
def add_generator(generator: GeneratorIdentity) -> None:
    """Register a generator, once."""
    with engine.writing() as connection:
        row: dict[str, object] = {"name": generator.name, **generator.__dict__}
        engine.insert_missing(connection, schema.generators, [row])


def add(connection: sa.Connection, model: Model, problems: Iterable[str]) -> None:
    """Register a model, with the `dataset.identity` of each problem it was trained on.

    A model that is registered already, for example by a training interrupted at its end, stays as it is.
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
        engine.insert_missing(connection, schema.model_problems, rows)


def promote(connection: sa.Connection, kind: Kind, name: str | None, reason: str) -> None:
    """Put a model, or none, in use for its kind from now on."""
    row = {"kind": kind, "model": name, "reason": reason, "promoted_at": engine.now(connection)}
    connection.execute(schema.promotions.insert().values(**row))


@dataclass(frozen=True)
class Promotion:
    """Since when a model, or none, is in use, and why."""

    model: str | None
    reason: str
    promoted_at: float


def last_promotion(connection: sa.Connection, kind: Kind) -> Promotion:
    """Give the last promotion of a kind."""
    columns = promotions.model, promotions.reason, promotions.promoted_at
    query = sa.select(*columns).where(promotions.kind == kind).order_by(promotions.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return Promotion(*row) if row else Promotion(None, "no model was ever in use", 0.0)


def in_use(kind: Kind) -> Model | None:
    """Give the model in use for a kind; ``None``: there is none."""
    with engine.reading() as connection:
        name = last_promotion(connection, kind).model
        row = connection.execute(sa.select(schema.models).where(models.name == name)).one_or_none()
    return _model(row) if row else None


def switched_off() -> Promotion | None:
    """Tell when and why a test has switched off the scorer in use; ``None``: it has not, or not last."""
    with engine.reading() as connection:
        last = last_promotion(connection, "scorer")
    return last if last.reason.startswith(SWITCHED_OFF) else None


def chosen(kind: Kind, wanted: str) -> Model | None:
    """Give the model that ``wanted`` names: by name, the one in use (`IN_USE`, `FOLLOW`), or `NONE`.

    Raises:
        UserError: there is no such model.
    """
    if wanted == NONE:
        return None
    return in_use(kind) if wanted in (IN_USE, FOLLOW) else get(wanted, kind)


def weighed(sampling: Sampling) -> Sampling:
    """Add to a run's options what its scorer has learned that votes of each kind count (`Model.weighing`).

    Raises:
        UserError: there is no such scorer.
    """
    model = chosen("scorer", sampling.scorer)
    return model.weighing(sampling) if model else sampling


def pinned(kind: Kind, wanted: str) -> str:
    """Resolve ``wanted`` to a full name or `NONE`; `FOLLOW` stays unresolved.

    Raises:
        UserError: there is no such model.
    """
    model = chosen(kind, wanted)
    return FOLLOW if wanted == FOLLOW else model.name if model else NONE


def get(name: str, kind: Kind | None = None) -> Model:
    """Look up a model by its name or a unique prefix of it.

    Raises:
        UserError: there is no such model, or there are several, which the message names.
    """
    candidates = [model for model in every() if kind in (None, model.kind)]
    matches = [model for model in candidates if model.name == name] or [
        model for model in candidates if name and model.name.startswith(name)
    ]
    if len(matches) == 1:
        return matches[0]
    names = [model.name for model in matches or candidates]
    if matches:
        raise UserError(f"{name!r} is ambiguous, it may be {' or '.join(names)}: give more of its name")
    close = difflib.get_close_matches(name, names, n=3) or names[-3:]
    what = kind or "model"
    raise UserError(f"no {what} is called {name!r}; there are: {', '.join(close) or 'none yet'}")


def rule_of(sampling: Sampling, model: Model | None) -> Rule:
    """Give a run's voting rule; the run's options override the scorer's best rule."""
    best = (model.rule if model else None) or GATE
    use = best.use if sampling.use == "auto" else VotingMode(sampling.use)
    if sampling.threshold is not None:
        return Rule(use, sampling.threshold)
    return Rule(use, model.threshold(use) if model else best.threshold)


def every() -> list[Model]:
    """List all models, oldest first."""
    with engine.reading() as connection:
        rows = connection.execute(sa.select(schema.models).order_by(models.created_at, models.name))
        return [_model(row) for row in rows]


def problems(name: str) -> set[str]:
    """Give the `dataset.identity` of each problem that a model was trained on."""
    query = sa.select(model_problems.problem).where(model_problems.model == name)
    with engine.streaming() as connection:
        return set(connection.scalars(query))


def _model(row: sa.Row[Any]) -> Model:
    values = dict(row._mapping)
    use, threshold = values.pop("use"), values.pop("threshold")
    return Model(**values, rule=Rule(VotingMode(use), threshold) if use else None)
