"""Print the figures of inference, training, revotes and models.

    ("accuracy of one vote", "118/320  36.9 %")

The figures come from the `*_report` modules and `revote`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from producers import console
from producers.models import ListedModel
from producers.reports import (
    render,
    render_api_usage,
    render_calibration,
    render_comparison,
    render_voices,
    training_report,
)
from producers.reports.inference_report import Figures
from producers.reports.render import Rows
from producers.reports.revote import ORACLE, Revote, Row
from producers.reports.shares import Share
from producers.reports.training_report import TrainingReport
from shared.ledger.models import Model

GUESSED = "{} without a letter count as A"  # of the questions behind the plain majority's accuracy


def inference_rows(figures: Figures) -> Rows:
    """Return a run's figures as table rows."""
    rows = [("questions", _counts(figures))]
    moments = ("deadline", figures.deadline_at), ("texts of votes dropped", figures.texts_dropped_at)
    rows += [(name, render.clock(at)) for name, at in moments if at is not None]
    rows += [*_budget_rows(figures), *_stopped_rows(figures)]
    rows += _accuracy_rows(figures)
    rows += [
        (f"answered by {how}", render.percent(Share(count, figures.answered)))
        for how, count in figures.how.items()
    ]
    rounds = ", ".join(f"{count} in {attempt}" for attempt, count in sorted(figures.rounds.items()))
    rows += [
        ("rounds until the answer", rounds or "-"),
        ("agreement (majority's share)", f"{100 * figures.agreement:.1f} %" if figures.agreement else "-"),
        ("votes without a letter", render.percent(figures.unreadable)),
        ("votes accepted", render.percent(figures.accepted)),
    ]
    rows += _forced_rows(figures) + render_voices.rows(figures.voices)
    services = render_api_usage.service_rows(figures.services) if figures.services else []
    combined = render_comparison.combination_rows(figures.combination) if figures.combination else []
    rows += render_calibration.report_rows(figures.calibration) if figures.calibration else []
    return combined + rows + _scorer_rows(figures) + _source_rows(figures) + services + _work_rows(figures)


def _counts(figures: Figures) -> str:
    abstained = f", {figures.abstained} abstained" if figures.abstained else ""
    cancelled = f", {figures.cancelled} cancelled" if figures.cancelled else ""
    rest = f"{figures.dead} dead, {figures.open} open{cancelled}"
    return f"{figures.questions}: {figures.answered} answered{abstained}, {rest}"


def _budget_rows(figures: Figures) -> Rows:
    if (balance := figures.balance) is None:
        return []
    # A claim that records its votes has as many reserved.
    lost = balance.reserved - figures.votes
    left = f"{console.count(balance.left, 'vote')} left, {lost} lost or in play"
    mean = figures.votes / max(1, balance.begun)
    return [("votes a question", f"{mean:.2f}, of {balance.budget:g}: {left}")]


def _stopped_rows(figures: Figures) -> Rows:
    if not figures.stopped:
        return []
    why = "needed" if figures.balance is None else "asked for"
    why = why if figures.deadline_at is None else f"{why}, or late"
    unfinished = f"{console.count(figures.unfinished, 'vote')} not {why}"
    aborted = f", of which {figures.aborted_tokens} tokens were sampled" if figures.aborted_tokens else ""
    return [
        ("questions stopped early", f"{figures.stopped}: {unfinished}{aborted}"),
        ("left out, since their votes are no fair sample", "one vote, first round, agreement, scorer"),
    ]


def _accuracy_rows(figures: Figures) -> Rows:
    if not figures.final.of and not figures.one_vote.of:
        labelled = figures.right_letters.total()
        return [("accuracy", "no question is answered yet" if labelled else "no gold answers")]
    final = f"accuracy of the {'answers given' if figures.abstained else 'final answer'}"
    if figures.stopped:
        return [(final, render.percent(figures.final))]
    guessed = f", {GUESSED.format(figures.guessed)}" if figures.guessed else ""
    return [
        ("accuracy of one vote", render.percent(figures.one_vote)),
        ("accuracy of the first round's majority", render.percent(figures.majority) + guessed),
        (final, render.percent(figures.final)),
        ("some first-round vote right", render.percent(figures.some_vote_right)),
    ]


def _forced_rows(figures: Figures) -> Rows:
    if not figures.forced_letters:
        return []
    rows = [
        ("letters asked for", _letter_shares(figures.forced_letters)),
        ("letters read", _letter_shares(figures.read_letters)),
    ]
    if figures.with_forced.of:
        rows += [
            ("plain majority with letters asked for", render.percent(figures.with_forced)),
            ("plain majority without them", render.percent(figures.without_forced)),
        ]
    return rows


def _letter_shares(letters: Counter[str]) -> str:
    total = letters.total()
    shares = ", ".join(f"{letter} {100 * count / total:.0f} %" for letter, count in sorted(letters.items()))
    return f"{total}: {shares}" if total else "none"


def _scorer_rows(figures: Figures) -> Rows:
    judged = figures.scorer
    accepted, void = judged.accepted_right + judged.accepted_wrong, judged.void_right + judged.void_wrong
    if not accepted + void:
        return []
    return [
        ("scorer: accepted votes right", render.percent(Share(judged.accepted_right, accepted))),
        ("scorer: void votes right", render.percent(Share(judged.void_right, void))),
        ("scorer: AUC over votes", "-" if judged.auc is None else f"{judged.auc:.3f}"),
    ]


def _source_rows(figures: Figures) -> Rows:
    rows = []
    combined = ", ".join(figures.combination.weights) if figures.combination else ""
    unknown = f"the runs {combined}" if combined else "not on record"
    for source in figures.sources:
        model = f"{source.model} (weights {source.weights}, {source.engine})" if source.model else unknown
        adapter = f", adapter {source.adapter}" if source.adapter else ""
        scorer = f", scorer {source.scorer}" if source.scorer else ", no scorer"
        rows.append((f"{console.count(source.votes, 'vote')} sampled by", f"{model}{adapter}{scorer}"))
    return rows


def _work_rows(figures: Figures) -> Rows:
    rows = [("tokens sampled", str(figures.tokens))]
    if figures.wall_seconds is not None and figures.tokens_per_second is not None:
        rows.append(("first claim to last answer", console.span(figures.wall_seconds)))
        rows.append(("tokens a second", f"{figures.tokens_per_second:.1f}"))
    for name, worker in figures.workers.items():
        lost = f", {worker.lost} lost" if worker.lost else ""
        rows.append((f"worker {name}", f"{worker.claims} claims, {worker.ended} ended{lost}"))
    losses = figures.losses
    if losses.lost:
        again = f"{losses.lost}, {losses.taken_again} taken again"
        if losses.median_seconds is not None and losses.longest_seconds is not None:
            again += (
                f" after {losses.median_seconds:.1f} s (median), {losses.longest_seconds:.1f} s (longest)"
            )
        rows.append(("claims lost", again))
    return rows


HEADINGS = [
    "way to answer",
    "right",
    "95 % interval",
    "points over the majority",
    "rounds",
    "tokens a question",
]


def report(comparison: Revote) -> None:
    """Print the comparison of all voting modes."""
    render.text(f"run {comparison.run}, {compared_on(comparison)}")
    render.table(map(cells, comparison.rows), HEADINGS)
    if comparison.scorer is None:
        render.text(
            f"no scorer has scored these votes: run `votequeue enqueue infer {comparison.run} --scorer NAME`"
        )


def compared_on(comparison: Revote) -> str:
    """Describe the scorer and the questions of a comparison."""
    parts = [f"{comparison.questions} questions"]
    parts += [
        f"{count} left out ({reason})"
        for count, reason in [
            (comparison.unlabelled, "no right letter"),
            (comparison.learned, "the scorer was trained on their problems"),
            (comparison.otherwise, "not judged by this scorer"),
        ]
        if count
    ]
    if comparison.stopped:
        parts.append(
            f"{comparison.stopped} of them stopped early: exact for the rule of the run only; one vote, "
            f"{ORACLE} and AUC are left out"
        )
    judged = f"scores of {comparison.scorer}" if comparison.scorer else "no scores"
    auc = f", AUC {comparison.auc:.3f} over readable votes" if comparison.auc is not None else ""
    return f"{judged}{auc}: {', '.join(parts)}"


def page_rows(comparison: Revote) -> Rows:
    """Return the comparison as rows of two cells."""
    rows = [(row[0], ", ".join(filter(None, row[1:]))) for row in map(cells, comparison.rows)]
    return [("compared on", compared_on(comparison)), *rows]


def cells(row: Row) -> list[str]:
    """Return one voting mode as table cells, in the order of `HEADINGS`."""
    name = row.name if row.threshold is None else f"{row.name} from {row.threshold:.2f}"
    over = "" if row.over_majority is None else f"{100 * row.over_majority:+.1f}"
    if over and row.over_interval is not None:
        over += f" ({render.points(row.over_interval)})"
    return [
        name,
        render.percent(row.right),
        f"{render.points(row.interval)} %" if row.interval else "",
        over,
        "" if row.rounds is None else f"{row.rounds:.2f}",
        "" if row.tokens is None else f"{row.tokens:.0f}",
    ]


def status(training: TrainingReport) -> None:
    """Print the progress of a training."""
    if training.step is not None and training.progress.open:
        render.text(training_report.summary(training))


def training_rows(training: TrainingReport) -> Rows:
    """Return a training's figures as table rows."""
    rows = [("trained on", training.source)]
    if training.step is not None:
        rows.append(
            (
                "progress",
                training_report.summary(training)
                if training.progress.open
                else f"{training.step} of {training.of} steps",
            )
        )
    rows += render.result_rows(training.result or {})
    return rows + render.result_rows(training.options, "options.")


def model_table(models: Sequence[ListedModel]) -> None:
    """Print all models."""
    if not models:
        render.text("no models yet: `votequeue enqueue train scorer` or `... lora` trains one")
        return
    rows = [
        [
            "*" if listed.in_use else "",
            model.name,
            model.run or "-",
            render.clock(model.created_at),
            describe_metrics(model.metrics),
            describe_rule(model),
            model.source if listed.here else f"{model.source} (its files are not on this machine)",
        ]
        for listed in models
        for model in (listed.model,)
    ]
    render.table(rows, ["", "model", "run", "made", "held out", "use", "trained on"])


def describe_metrics(metrics: dict[str, Any]) -> str:
    """Summarize a model's metrics."""
    parts = []
    if metrics.get("auc") is not None:
        parts.append(f"AUC {metrics['auc']:.3f}")
    if (accuracy := metrics.get("answers")) is not None:
        parts.append(f"{100 * accuracy['best']:.1f} % right (majority {100 * accuracy['majority']:.1f} %)")
    if "loss_before" in metrics:
        parts.append(f"loss {metrics['loss_before']:.3f} -> {metrics['loss']:.3f}")
    return ", ".join(parts) or "-"


def describe_rule(model: Model) -> str:
    """Describe how a scorer's scores are used."""
    if model.rule is None:
        return "-"
    use, threshold = model.rule.use, model.rule.threshold
    return f"{use} from {threshold:.2f}" if use.voids else use


def model_details(listed: ListedModel) -> None:
    """Print all facts about a model."""
    model = listed.model
    rows = [
        ("kind", model.kind),
        ("in use", "yes" if listed.in_use else "no"),
        ("files", "on this machine" if listed.here else "not on this machine"),
        ("made", render.clock(model.created_at)),
        ("by run", model.run or "-"),
        ("trained on", model.source),
        ("data digest", model.digest),
        ("base", model.base),
        ("code", model.code or "-"),
        ("use", describe_rule(model)),
        *render.result_rows(model.metrics, "metrics."),
        *render.result_rows(model.options, "options."),
    ]
    render.table(rows, [model.name, ""])
