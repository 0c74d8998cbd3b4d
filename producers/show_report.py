"""The figures of a run that answers questions, in words.

    ("accuracy of one vote", "118/320  36.9 %")

How they are worked out is `report`'s business.
"""

from producers import progress, show
from producers.report import Figures, Share
from producers.show import Rows


def rows(found: Figures) -> Rows:
    """Put a run's figures into words and numbers."""
    told = [("questions", _counts(found)), *_accuracy_rows(found)]
    told += [
        (f"answered by {how}", show.percent(Share(count, found.answered))) for how, count in found.how.items()
    ]
    rounds = ", ".join(f"{count} in {attempt}" for attempt, count in sorted(found.rounds.items()))
    told += [
        ("rounds until the answer", rounds or "-"),
        ("agreement (majority's share)", f"{100 * found.agreement:.1f} %" if found.agreement else "-"),
        ("votes without a letter", show.percent(found.unreadable)),
        ("votes accepted", show.percent(found.accepted)),
    ]
    return told + _scorer_rows(found) + _work_rows(found)


def _counts(found: Figures) -> str:
    return f"{found.questions}: {found.answered} answered, {found.dead} dead, {found.open} open"


def _accuracy_rows(found: Figures) -> Rows:
    if not found.final.of and not found.one_vote.of:
        return [("accuracy", "no right answers are known")]
    return [
        ("accuracy of one vote", show.percent(found.one_vote)),
        ("accuracy of the first round's majority", show.percent(found.majority)),
        ("accuracy of the final answer", show.percent(found.final)),
        ("some first-round vote right", show.percent(found.some_vote_right)),
    ]


def _scorer_rows(found: Figures) -> Rows:
    judged = found.scorer
    accepted, void = judged.accepted_right + judged.accepted_wrong, judged.void_right + judged.void_wrong
    if not accepted + void:
        return []
    return [
        ("scorer: accepted votes right", show.percent(Share(judged.accepted_right, accepted))),
        ("scorer: void votes right", show.percent(Share(judged.void_right, void))),
        ("scorer: AUC over votes", "-" if judged.auc is None else f"{judged.auc:.3f}"),
    ]


def _work_rows(found: Figures) -> Rows:
    told = [("tokens sampled", str(found.tokens))]
    if found.wall_seconds is not None and found.tokens_per_second is not None:
        told.append(("first claim to last answer", progress.span(found.wall_seconds)))
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
