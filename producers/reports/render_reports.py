"""Print the figures of inference, trainings, revotes and models.

    ("accuracy of one vote", "118/320  36.9 %")

The figures come from the `*_report` modules and `revote`.
"""

from collections.abc import Sequence
from typing import Any

from producers import console
from producers.models import ListedModel
from producers.reports import render, training_report
from producers.reports.confidence_intervals import Interval
from producers.reports.inference_report import Figures, Share
from producers.reports.render import Rows
from producers.reports.revote import Revote, Row
from producers.reports.training_report import TrainingReport
from shared.ledger.models import Model


def inference_rows(found: Figures) -> Rows:
    """Put a run's figures into words and numbers."""
    told = [("questions", _counts(found)), *_accuracy_rows(found)]
    told += [
        (f"answered by {how}", render.percent(Share(count, found.answered)))
        for how, count in found.how.items()
    ]
    rounds = ", ".join(f"{count} in {attempt}" for attempt, count in sorted(found.rounds.items()))
    told += [
        ("rounds until the answer", rounds or "-"),
        ("agreement (majority's share)", f"{100 * found.agreement:.1f} %" if found.agreement else "-"),
        ("votes without a letter", render.percent(found.unreadable)),
        ("votes accepted", render.percent(found.accepted)),
    ]
    return told + _scorer_rows(found) + _source_rows(found) + _work_rows(found)


def _counts(found: Figures) -> str:
    return f"{found.questions}: {found.answered} answered, {found.dead} dead, {found.open} open"


def _accuracy_rows(found: Figures) -> Rows:
    if not found.final.of and not found.one_vote.of:
        return [("accuracy", "no right answers are known")]
    return [
        ("accuracy of one vote", render.percent(found.one_vote)),
        ("accuracy of the first round's majority", render.percent(found.majority)),
        ("accuracy of the final answer", render.percent(found.final)),
        ("some first-round vote right", render.percent(found.some_vote_right)),
    ]


def _scorer_rows(found: Figures) -> Rows:
    judged = found.scorer
    accepted, void = judged.accepted_right + judged.accepted_wrong, judged.void_right + judged.void_wrong
    if not accepted + void:
        return []
    return [
        ("scorer: accepted votes right", render.percent(Share(judged.accepted_right, accepted))),
        ("scorer: void votes right", render.percent(Share(judged.void_right, void))),
        ("scorer: AUC over votes", "-" if judged.auc is None else f"{judged.auc:.3f}"),
    ]


def _source_rows(found: Figures) -> Rows:
    rows = []
    for source in found.sources:
        model = (
            f"{source.model} (weights {source.weights}, {source.engine})" if source.model else "not on record"
        )
        adapter = f", adapter {source.adapter}" if source.adapter else ""
        scorer = f", scorer {source.scorer}" if source.scorer else ", no scorer"
        rows.append((f"{console.count(source.votes, 'vote')} sampled by", f"{model}{adapter}{scorer}"))
    return rows


def _work_rows(found: Figures) -> Rows:
    told = [("tokens sampled", str(found.tokens))]
    if found.wall_seconds is not None and found.tokens_per_second is not None:
        told.append(("first claim to last answer", console.span(found.wall_seconds)))
        told.append(("tokens a second", f"{found.tokens_per_second:.1f}"))
    for name, worker in found.workers.items():
        lost = f", {worker.lost} lost" if worker.lost else ""
        told.append((f"worker {name}", f"{worker.claims} claims, {worker.ended} seen through{lost}"))
    losses = found.losses
    if losses.lost:
        again = f"{losses.lost}, {losses.taken_again} taken again"
        if losses.median_seconds is not None and losses.longest_seconds is not None:
            again += (
                f" after {losses.median_seconds:.1f} s (median), {losses.longest_seconds:.1f} s (longest)"
            )
        told.append(("claims lost", again))
    return told


HEADINGS = [
    "way to answer",
    "right",
    "95 % interval",
    "points over the majority",
    "rounds",
    "tokens a question",
]


def report(found: Revote) -> None:
    """Print all ways to answer, and what they were compared on."""
    render.text(f"run {found.run}, {compared_on(found)}")
    render.table(map(cells, found.rows), HEADINGS)
    if found.scorer is None:
        render.text(
            f"no scorer has judged these votes: `votequeue enqueue infer {found.run} --scorer NAME` lets one"
        )


def compared_on(found: Revote) -> str:
    """Say whose scores these are, over which questions."""
    parts = [f"{found.questions} questions"]
    parts += [
        f"{count} left out ({why})"
        for count, why in [
            (found.unlabelled, "no right letter"),
            (found.learned, "the scorer was trained on their problems"),
            (found.otherwise, "not judged by this scorer"),
        ]
        if count
    ]
    judged = f"scores of {found.scorer}" if found.scorer else "no scores"
    auc = f", AUC {found.auc:.3f} over readable votes" if found.auc is not None else ""
    return f"{judged}{auc}: {', '.join(parts)}"


def page_rows(found: Revote) -> Rows:
    """Put the comparison into rows of two, for a page."""
    told = [(row[0], ", ".join(filter(None, row[1:]))) for row in map(cells, found.rows)]
    return [("compared on", compared_on(found)), *told]


def cells(row: Row) -> list[str]:
    """Put one way to answer into cells, as `HEADINGS` has them."""
    name = row.name if row.threshold is None else f"{row.name} from {row.threshold:.2f}"
    over = "" if row.over_majority is None else f"{100 * row.over_majority:+.1f}"
    if over and row.over_interval is not None:
        over += f" ({_points(row.over_interval)})"
    return [
        name,
        render.percent(row.right),
        f"{_points(row.interval)} %" if row.interval else "",
        over,
        "" if row.rounds is None else f"{row.rounds:.2f}",
        "" if row.tokens is None else f"{row.tokens:.0f}",
    ]


def _points(found: Interval) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in found)


def status(found: TrainingReport) -> None:
    """Print how far a training is."""
    if found.step is not None and found.standing.open:
        render.text(training_report.line(found))


def training_rows(found: TrainingReport) -> Rows:
    """Put a training's figures into words and numbers."""
    told = [("trained on", found.source)]
    if found.step is not None:
        told.append(
            (
                "way",
                training_report.line(found) if found.standing.open else f"{found.step} of {found.of} steps",
            )
        )
    told += render.result_rows(found.result or {})
    return told + render.result_rows(found.options, "options.")


def listing(found: Sequence[ListedModel]) -> None:
    """Print all models."""
    if not found:
        render.text("no models yet: `votequeue enqueue train scorer` or `... lora` trains one")
        return
    rows = [
        [
            "*" if listed.in_use else "",
            model.name,
            model.run or "-",
            render.clock(model.created_at),
            figures(model.metrics),
            rule_of(model),
            model.source if listed.here else f"{model.source} (its files are not here)",
        ]
        for listed in found
        for model in (listed.model,)
    ]
    render.table(rows, ["", "model", "run", "made", "held out", "use", "trained on"])


def figures(metrics: dict[str, Any]) -> str:
    """Say in a few words what a model was measured to do."""
    parts = []
    if metrics.get("auc") is not None:
        parts.append(f"AUC {metrics['auc']:.3f}")
    if (accuracy := metrics.get("answers")) is not None:
        parts.append(f"{100 * accuracy['best']:.1f} % right (majority {100 * accuracy['majority']:.1f} %)")
    if "loss_before" in metrics:
        parts.append(f"loss {metrics['loss_before']:.3f} -> {metrics['loss']:.3f}")
    return ", ".join(parts) or "-"


def rule_of(model: Model) -> str:
    """Say how a scorer's scores are used."""
    if model.rule is None:
        return "-"
    use, threshold = model.rule.use, model.rule.threshold
    return f"{use} from {threshold:.2f}" if use.voids else use


def one(listed: ListedModel) -> None:
    """Print all that is known of a model."""
    model = listed.model
    rows = [
        ("kind", model.kind),
        ("in use", "yes" if listed.in_use else "no"),
        ("files", "here" if listed.here else "not below this machine's folder of trained models"),
        ("made", render.clock(model.created_at)),
        ("by run", model.run or "-"),
        ("trained on", model.source),
        ("digest of that", model.digest),
        ("base", model.base),
        ("code", model.code or "-"),
        ("use", rule_of(model)),
        *render.result_rows(model.metrics, "metrics."),
        *render.result_rows(model.options, "options."),
    ]
    render.table(rows, [model.name, ""])
