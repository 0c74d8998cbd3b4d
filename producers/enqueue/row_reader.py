"""Read a data set in any layout as entries, row by row.

    scan(Path("agieval.jsonl"), Reading())  ->  Line(1, '{"id": "q1", "problem": "", ...}', Entry(...), ...)
                                            ->  BadLine(..., 17, "label", 'found ["A", "C"], expected ...')

votequeue's own JSON Lines are read by `dataset.scan`. Rows without an id are named by their number, ``q17``.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from producers import containers
from producers.containers import InputFile, Row
from producers.layouts import catalog
from producers.layouts.mapping import Mapped
from producers.layouts.types import Layout, RowProblem
from shared import dataset, json_text, source_rows
from shared.dataset import BadLine, Entry, Line
from shared.errors import UserError
from shared.options import Reading
from shared.source_rows import SourceRows

_LOOKED_AT = 50  # first rows of which one must tell the layout


def scan(path: Path, reading: Reading) -> Iterator[Line | BadLine]:
    """Read a data set, giving each entry, or each row that cannot be used; ids are kept in memory.

    Raises:
        UserError: the file cannot be read, or its layout is unknown.
    """
    file = containers.detect(path)
    layout, headerless = _layout(file, reading)
    file = replace(file, kind="blocks") if layout.blocks else file
    if layout is catalog.OWN and file.kind == "lines":
        lines = dataset.scan(path, containers.raw_lines(file) if file.compression else None)
    else:
        record = json_text.dumps(layout.record())
        lines = _Scan(file, layout, record).lines(containers.rows(file, headerless))
    yield from lines if reading.limit is None else _limited(lines, reading.limit)


def digest(path: Path) -> str:
    """Give the sha256 of a file's bytes, in hex; of a folder's parts, in order."""
    parts = containers.files_of(path)
    if parts == [path]:
        return dataset.digest(path)
    return hashlib.sha256("".join(map(dataset.digest, parts)).encode()).hexdigest()


def _limited(lines: Iterable[Line | BadLine], limit: int) -> Iterator[Line | BadLine]:
    good = 0
    for line in lines:
        yield line
        good += isinstance(line, Line)
        if good == limit:
            return


def _layout(file: InputFile, reading: Reading) -> tuple[Layout, bool]:
    """Return the layout of a file's rows, and whether they are cells of a table without a header."""
    chosen = catalog.chosen(reading)
    if isinstance(chosen, Mapped):
        _require_names(file, chosen)
    if chosen is not None:
        return chosen, chosen.headerless
    if file.kind in ("csv", "tsv"):
        first = _recognised(containers.rows(file, headerless=True), 1)
        if first is not None and first.headerless:
            return first, True
    found = _recognised(containers.rows(file), _LOOKED_AT)
    if found is not None or (file.kind == "lines" and not file.compression):
        # Of lines in no layout, `dataset.scan` says more.
        return found or catalog.OWN, False
    row = next(containers.rows(file), None)
    if row is None:
        raise UserError(f"{file.path} has no row")
    if row.problem:
        raise UserError(f"{file.path} {file.unit} {row.number}: {row.problem}")
    raise catalog.unknown(str(file.path), row.value)


def _require_names(file: InputFile, layout: Mapped) -> None:
    first = [row.value for row in itertools.islice(containers.rows(file), _LOOKED_AT)]
    named = [value for value in first if isinstance(value, dict)]
    if named and (absent := layout.absent(named)):
        fields = ", ".join(name or "(no name)" for name in named[0])
        raise UserError(f"{file.path} has no such field: --map {absent}; its first row has {fields}")


def _recognised(rows: Iterable[Row], count: int) -> Layout | None:
    readable = (row.value for row in itertools.islice(rows, count) if not row.problem)
    return next((layout for value in readable if (layout := catalog.recognise(value))), None)


@dataclass
class _Group:
    """Neighbouring rows of one entry."""

    number: int
    entry: dict[str, Any]
    checked: Entry
    rows: list[str]


@dataclass
class _Scan:
    """One pass over rows in one layout."""

    file: InputFile
    layout: Layout
    record: str
    # Hashes of the ids so far; those of our own layout with their rows. A set takes less memory.
    own: dict[int, int] = field(default_factory=dict)
    others: set[int] = field(default_factory=set)

    def lines(self, rows: Iterable[Row]) -> Iterator[Line | BadLine]:
        group: _Group | None = None
        for count, row in enumerate(rows, start=1):
            added = self._group(row, count)
            if isinstance(added, _Group) and group is not None and self._is_same(group, added):
                group.entry["questions"] += added.entry["questions"]
                group.rows += added.rows
                continue
            if group is not None:
                yield self._line(group)
            group = None
            if isinstance(added, BadLine):
                yield added
            elif self.layout.grouped:
                group = added
            else:
                yield self._line(added)
        if group is not None:
            yield self._line(group)

    def _is_same(self, group: _Group, added: _Group) -> bool:
        return all(group.entry.get(name) == added.entry.get(name) for name in ("id", "problem"))

    def _group(self, row: Row, count: int) -> _Group | BadLine:
        """Convert and check one row; ``count`` is its number among the rows."""
        if row.problem:
            return self._bad(row, "", row.problem)
        if flaw := json_text.flaw(row.value):
            return self._bad(row, *flaw)
        try:
            entry = self.layout.entry(row.value)
        except RowProblem as error:
            return self._bad(row, error.field, error.problem)
        if self.layout is not catalog.OWN and not isinstance(entry.get("id"), str | int):
            entry = {**entry, "id": f"q{count}"}
        checked = self._checked(entry)
        if not isinstance(checked, Entry):
            return self._bad(row, self.layout.own_field(checked[0]), checked[1])
        first = self.own.get(hash(str(checked.id)))
        if first is not None:
            problem = f"{json_text.shown(checked.id)} stands on {self.file.unit} {first} already"
            return self._bad(row, "id", problem)
        return _Group(row.number, entry, checked, [_text(row)])

    def _checked(self, entry: dict[str, Any]) -> Entry | tuple[str, str]:
        checked = dataset.checked(entry, flawless=True)
        if isinstance(checked, Entry) and self.layout is not catalog.OWN:
            for at, question in enumerate(checked.questions):
                if not (checked.problem + question.question).strip():
                    return f"questions[{at}].question", "it is empty, and so is the problem: expected text"
        return checked

    def _bad(self, row: Row, name: str, problem: str) -> BadLine:
        unreadable = (row.problem and row.value is None) or json_text.flaw(row.value)
        text = "" if unreadable else _text(row)
        return BadLine(self.file.path, row.number, name, problem, self.file.unit, text)

    def _line(self, group: _Group) -> Line:
        entry, checked = group.entry, group.checked
        if self.layout is catalog.OWN:
            self.own[hash(str(checked.id))] = group.number
            return Line(group.number, group.rows[0], checked)
        if hash(str(checked.id)) in self.others:
            # Benchmarks number their rows anew in each of their parts.
            entry = {**entry, "id": f"{entry['id']}-row{group.number}"}
        self.others.add(hash(str(entry["id"])))
        if len(group.rows) > 1 or entry is not group.entry:
            checked = Entry.model_validate(entry)
        return Line(group.number, json_text.dumps(entry), checked, SourceRows(self.record, tuple(group.rows)))


def _text(row: Row) -> str:
    return row.text or json_text.dumps(row.value)


# Rows to be recorded


def recorded(lines: Iterable[Line | BadLine]) -> Iterator[Line]:
    """Give the good lines, each with the skipped rows that follow it; the first also with those before."""
    kept: Line | None = None
    skipped: list[str] = []
    leading: list[str] = []
    for line in lines:
        if isinstance(line, BadLine):
            # What is not JSON is no row, and cannot be written back.
            (leading if kept is None else skipped).extend(filter(None, [line.text]))
            continue
        if kept is not None:
            yield _with_skipped(kept, leading, skipped)
            leading, skipped = [], []
        kept = line
    if kept is not None:
        yield _with_skipped(kept, leading, skipped)


def _with_skipped(line: Line, before: list[str], after: list[str]) -> Line:
    if not before and not after:
        return line
    source = line.source or SourceRows(source_rows.OWN, (source_rows.OWN,))
    rows = (*before, *source.rows, *after)
    first_after = len(before) + len(source.rows)
    skipped = (*range(len(before)), *range(first_after, len(rows)))
    return replace(line, source=SourceRows(source.layout, rows, skipped))
