"""The test of the scorer in use on labelled runs, and the evidence on which it is switched off.

    facts ("scorer test scorer-3f9c", '{"since": 1795340412.5, "runs": ["round1"], "won": 3, ...}')

The test is sequential: its level holds although the scorer may be switched off after any run.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from pydantic import BaseModel

from shared import metrics
from shared.ledger import engine, models, runs, schema
from shared.ledger.models import Model, Promotion
from shared.ledger.runs import Run
from shared.ledger.schema import OPEN, Control


class _Test(BaseModel):
    """The runs tested since a promotion, how many entries were won and lost, and all entries ever tested."""

    since: float
    runs: list[str] = []
    won: int = 0
    lost: int = 0
    entries: list[str] = []


def due() -> tuple[Model, list[Run]] | None:
    """Give the scorer in use, and the runs enqueued since, finished and not tested yet, oldest first."""
    scorer = models.in_use("scorer")
    if scorer is None:
        return None
    items, columns = schema.items.c, schema.runs.c
    unfinished = sa.exists().where(items.run == columns.name, items.state.in_(OPEN))
    whole = columns.kind == "infer", columns.control != Control.DELETING, ~unfinished
    query = sa.select(columns.name).where(*whole).order_by(columns.created_at)
    with engine.reading() as connection:
        promotion = models.last_promotion(connection, "scorer")
        names = connection.scalars(query.where(columns.created_at >= promotion.promoted_at)).all()
        tested = set(_load(connection, scorer.name, promotion).runs)
    return scorer, [runs.get_run(name) for name in names if name not in tested]


@engine.retried
def record(model: str, run: str, outcomes: Mapping[str, int], level: float) -> None:
    """Record a run's test, and switch the scorer off if the evidence against it reaches 1 / level.

    ``outcomes`` are above 0 for entries on which the scorer is better than the plain majority. Entries of
    earlier tests of the scorer are left out. The evidence begins anew when the scorer is put to use again.
    """
    with engine.writing() as connection:
        promotion = models.last_promotion(connection, "scorer")
        test = _load(connection, model, promotion)
        if promotion.model != model or run in test.runs:
            return
        new = outcomes.keys() - set(test.entries)
        test.won += sum(outcomes[entry] > 0 for entry in new)
        test.lost += sum(outcomes[entry] < 0 for entry in new)
        test.runs.append(run)
        test.entries += sorted(new)
        engine.put(connection, schema.facts, {"name": _name(model)}, {"value": test.model_dump_json()})
        if (evidence := metrics.evidence(test.won, test.lost)) >= 1 / level:
            reason = (
                f"{models.SWITCHED_OFF} {model}: on labelled runs, it was better than the plain majority on "
                f"{test.won} entries, and worse on {test.lost} (evidence {evidence:.3g}, limit "
                f"{1 / level:.3g})"
            )
            models.promote(connection, "scorer", None, reason)


def _name(model: str) -> str:
    return f"scorer test {model}"


def _load(connection: sa.Connection, model: str, promotion: Promotion) -> _Test:
    facts = schema.facts.c
    value = connection.scalar(sa.select(facts.value).where(facts.name == _name(model)))
    test = _Test.model_validate_json(value) if value else _Test(since=promotion.promoted_at)
    if test.since == promotion.promoted_at:
        return test
    return _Test(since=promotion.promoted_at, entries=test.entries)
