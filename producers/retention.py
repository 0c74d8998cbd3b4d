"""Choose the runs whose votes lose their texts, and refuse what needs such texts.

drop(30 * 86_400.0)  ->  [Dropped(run="round1", votes=6640, bytes=3_412_772)]
"""

from shared.errors import UserError
from shared.ledger import retention, runs
from shared.ledger.retention import Dropped


def drop(older_than: float, run: str | None = None, dry_run: bool = False) -> list[Dropped]:
    """Drop the texts of the votes of infer runs that ended more than ``older_than`` seconds ago.

    Raises:
        UserError: the named ``run`` does not exist, or must keep its texts.
    """
    ended = retention.ended(older_than)
    if run is not None:
        runs.get_run(run)
        ended = [each for each in ended if each.name == run]
        if ended and (reason := ended[0].kept_because):
            raise UserError(f"run {run!r} keeps its texts: {reason}")
    due = [each for each in ended if not each.kept_because]
    found = [(each, size) for each in due if (size := retention.size(each.name)).bytes]
    for each, _ in [] if dry_run else found:
        retention.drop(each)
    return [size for _, size in found]


def require_texts(name: str, needed_by: str) -> None:
    """Refuse a run whose votes have lost their texts.

    Raises:
        UserError: they have.
    """
    if runs.get_run(name).texts_dropped_at is not None:
        raise UserError(
            f"{needed_by} needs the texts of votes, and `votequeue retention` dropped those of run {name!r}: "
            "sample its questions again"
        )
