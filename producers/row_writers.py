"""Write rows to a file by its ending: JSON Lines, a JSON array, CSV, TSV, blocks of text; ``.gz``, ``.zst``.

    write(rows, Path("out.csv.gz"))  ->  1204

Files are written atomically. `formats` writes Parquet and folders of `datasets`.
"""

import contextlib
import csv
import gzip
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from producers import containers
from shared import dataset, json_text
from shared.errors import UserError

_LOOKED_AT = 1000  # rows whose fields become the columns of a table


def write(rows: Iterable[Any], path: Path) -> int:
    """Write rows, all or none; return their number.

    Raises:
        UserError: the file cannot be written, or cannot hold such rows.
    """
    write_rows, count = _WRITERS.get(ending(path), _write_lines), itertools.count()
    with dataset.writing(path) as file, _compressed(file, path) as stream:
        write_rows((row for row, _ in zip(rows, count, strict=False)), stream, path)
    return next(count)


def ending(path: Path) -> str:
    """Return the ending of a file's name, without that of its compression."""
    return Path(path.name.removesuffix(".gz").removesuffix(".zst")).suffix.lower()


@contextlib.contextmanager
def _compressed(file: Any, path: Path) -> Iterator[IO[str]]:
    if path.suffix not in (".gz", ".zst"):
        yield file
        return
    with _compressor(file, path) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="")
        yield text
        text.flush()
        text.detach()


def _compressor(file: Any, path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.GzipFile(filename="", mode="wb", fileobj=file.buffer, mtime=0)
    pyarrow = containers.pyarrow(path)
    # By its name: pyarrow would close the file that it is given.
    return io.BufferedWriter(pyarrow.CompressedOutputStream(pyarrow.OSFile(file.name, "wb"), "zstd"))


def _write_lines(rows: Iterable[Any], file: IO[str], path: Path) -> None:
    for row in rows:
        file.write(json_text.dumps(row) + "\n")


def _write_array(rows: Iterable[Any], file: IO[str], path: Path) -> None:
    before = "["
    for row in rows:
        file.write(f"{before}\n{json_text.dumps(row)}")
        before = ","
    file.write("\n]\n" if before == "," else "[]\n")


def _write_table(rows: Iterable[Any], file: IO[str], path: Path) -> None:
    source = iter(rows)
    first = list(itertools.islice(source, _LOOKED_AT))
    columns = list(dict.fromkeys(name for row in first if isinstance(row, dict) for name in row))
    # Cells with CR are quoted only if it is part of the line end.
    out = csv.writer(
        _LineFeeds(file), delimiter=containers.DELIMITERS[ending(path)[1:]], lineterminator="\r\n"
    )
    if columns:
        out.writerow(columns)
    for row in itertools.chain(first, source):
        out.writerow(list(_cells(row, columns, path)))


class _LineFeeds:
    """A file whose lines end with LF, although they are given with CR and LF."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def _cells(row: Any, columns: list[str], path: Path) -> Iterator[Any]:
    if isinstance(row, dict) and (more := row.keys() - set(columns)):
        raise UserError(f"{path}: a later row has the field {min(more)!r} too: write .jsonl or .json")
    named = ((name, row.get(name)) for name in columns) if isinstance(row, dict) else enumerate(row)
    for name, value in named:
        if isinstance(value, list | dict):
            raise UserError(f"{path}: {name!r} holds a list or an object, cells are text: write .jsonl")
        yield value if value is None or isinstance(value, str) else json_text.dumps(value)


def _write_blocks(rows: Iterable[Any], file: IO[str], path: Path) -> None:
    for row in rows:
        # LogiQA's files begin with the blank line.
        lines = ["", *row] if isinstance(row, list) else [json_text.dumps(row)]
        file.write("".join(f"{line}\n" for line in lines))


_WRITERS: dict[str, Callable[[Iterable[Any], IO[str], Path], None]] = {
    ".json": _write_array,
    ".csv": _write_table,
    ".tsv": _write_table,
    ".txt": _write_blocks,
}
