"""The rows of an input file from which an entry was made, so that they can be written back.

    SourceRows('{"format": "agieval"}', ('{"passage": "……", "label": "A"}',))

An entry has one row in most layouts, and several where a file repeats the passage for each question. Rows
that were skipped as bad are kept beside the entry that they follow. ``null`` stands for the entry itself.
"""

from dataclasses import dataclass
from typing import Any

from shared import json_text

OWN = "null"  # the layout of votequeue itself, and a row that is the entry's own text


@dataclass(frozen=True)
class SourceRows:
    """JSON texts of rows and of their layout; ``skipped`` are the indexes of rows without an answer."""

    layout: str
    rows: tuple[str, ...]
    skipped: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Give the JSON text that the ledger stores."""
        rows = ", ".join(self.rows)
        return f'{{"layout": {self.layout}, "rows": [{rows}], "skipped": {list(self.skipped)}}}'


@dataclass(frozen=True)
class ParsedRows:
    """The rows of one entry as values, each with whether it was skipped."""

    layout: dict[str, Any] | None
    rows: list[tuple[Any, bool]]


def parse(text: str) -> ParsedRows:
    """Read the text of `SourceRows` from the ledger."""
    value = json_text.loads(text)
    skipped = set(value["skipped"])
    return ParsedRows(value["layout"], [(row, at in skipped) for at, row in enumerate(value["rows"])])


def of_text(text: str) -> SourceRows:
    """Read the text of `SourceRows` from the ledger, to record it again."""
    parsed = parse(text)
    return SourceRows(
        json_text.dumps(parsed.layout),
        tuple(json_text.dumps(row) for row, _ in parsed.rows),
        tuple(at for at, (_, skipped) in enumerate(parsed.rows) if skipped),
    )
