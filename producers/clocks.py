"""Times that the ledger keeps as seconds, as dates.

    moment(1795340412.5)  ->  2026-11-22 09:40:12.500 in UTC

A service may have asked for a pause that ends in no year there is: it is shown as the last year's end.
"""

from datetime import UTC, datetime

# A day less than datetime's last, so that every time zone has it.
LAST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()


def moment(seconds: float) -> datetime:
    """Give a time, in UTC."""
    return datetime.fromtimestamp(min(max(0.0, seconds), LAST), UTC)
