"""Read the rows of a file by its kind: JSON Lines, JSON arrays, tables, blocks of text, Parquet, folders.

    rows(detect(Path("test.csv.gz")))  ->  Row(2, {"id": "0", "question": "……", "A": "甲", ...})

The kind follows from the first bytes, then from the file's ending. Rows are streamed: no file is read as a
whole. Rows of text files are numbered by their lines, as an editor does.
"""

import contextlib
import csv
import gzip
import importlib.util
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from shared import dataset, file_detection, json_text
from shared.errors import UserError

_HEAD = 1 << 16  # bytes that a kind is detected from
_BATCH = 500  # rows of a Parquet or Arrow file in memory
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_ENDINGS = (".gz", ".zst")
_ARRAY = re.compile(rb"\s*\[\s*[{\[]")
_BLOCK = re.compile(rb"\s*[a-z][ \t]*\r?\n[^\n]")
_LONGEST_CELL = 1 << 24  # characters
DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class Row:
    """A row with its number and, where the file has it, its JSON text; ``problem``: why it cannot be used."""

    number: int
    value: Any = None
    text: str = ""
    problem: str = ""


@dataclass(frozen=True)
class InputFile:
    """A file, its kind, how it is compressed, and what its rows are called."""

    path: Path
    kind: str
    compression: str | None = None
    unit: str = "row"


def detect(path: Path) -> InputFile:
    """Detect what kind of file it is.

    Raises:
        UserError: it cannot be read.
    """
    if path.is_dir():
        return InputFile(path, "folder")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise dataset.unreadable(path, error) from None
    if head.startswith(b"PAR1"):
        return InputFile(path, "parquet")
    compression = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if compression:
        with _readable(path), _decompressed(path, compression) as stream:
            head = stream.read(_HEAD)
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    kind = _kind_of_text(head.removeprefix(b"\xef\xbb\xbf"), Path(name).suffix.lower())
    return InputFile(path, kind, compression, "row" if kind == "array" else "line")


def _kind_of_text(head: bytes, suffix: str) -> str:
    if _ARRAY.match(head):
        return "array"
    if suffix in (".csv", ".tsv"):
        return suffix[1:]
    if _BLOCK.match(head):
        return "blocks"
    if not suffix and head.strip() and head.lstrip()[:1] not in (b"{", b"[", b"<"):
        first = head.lstrip().split(b"\n", 1)[0]
        return "tsv" if b"\t" in first else "csv" if b"," in first else "lines"
    return "lines"


def rows(file: InputFile, headerless: bool = False) -> Iterator[Row]:
    """Read a file's rows; those of a ``headerless`` table are lists of cells.

    Raises:
        UserError: the file is damaged, of another encoding, or needs a package that is missing.
    """
    with _readable(file.path):
        try:
            yield from _READERS[file.kind](file, headerless)
        except UnicodeDecodeError:
            raise _no_text(file) from None


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Describe why a file cannot be read."""
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        # Errors of the system have a text, those of a library that decompresses have none.
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        raise UserError(f"{path} is damaged ({error}): get it again") from None


def _no_text(file: InputFile) -> UserError:
    """Describe a text that is not in UTF-8."""
    description = None if file.compression else file_detection.other_kind(file.path, is_text=True)
    if description is None:
        for number, raw in raw_lines(file):
            try:
                raw.decode()
            except UnicodeDecodeError as error:
                place = f"line {number}: not UTF-8 (byte {error.start + 1})"
                return UserError(f"{file.path} {place}: save the file as UTF-8")
    return UserError(description or f"{file.path} is not text: name a file of text")


def raw_lines(file: InputFile) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file that may be compressed, with their numbers, without blank ones."""
    with _readable(file.path), _binary(file) as stream:
        yield from dataset.numbered(stream)


def _binary(file: InputFile) -> IO[bytes]:
    return _decompressed(file.path, file.compression) if file.compression else file.path.open("rb")


def _decompressed(path: Path, compression: str) -> IO[bytes]:
    if compression == "gzip":
        return io.BufferedReader(gzip.open(path))
    arrow = pyarrow(path)
    stream: IO[bytes] = io.BufferedReader(arrow.CompressedInputStream(arrow.OSFile(str(path)), "zstd"))
    return stream


def pyarrow(path: Path) -> Any:
    """Import pyarrow, for a file.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise UserError(f"{path} needs the package pyarrow: pip install 'votequeue[collect]'") from None
    return pyarrow


def require_datasets(what: str) -> None:
    """Refuse an option or file that needs the package datasets, unless it is installed.

    Raises:
        UserError: it is not.
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"{what} needs the package datasets: pip install 'votequeue[collect]'")


def _text(file: InputFile) -> IO[str]:
    return io.TextIOWrapper(_binary(file), encoding="utf-8-sig", newline="")


# Text


def _read_lines(file: InputFile, headerless: bool) -> Iterator[Row]:
    for number, raw in raw_lines(file):
        try:
            text, value = dataset.parse_line(raw)
        except ValueError as error:
            yield Row(number, problem=str(error))
        else:
            yield Row(number, value, text)


def _read_array(file: InputFile, headerless: bool) -> Iterator[Row]:
    number = 0
    with _text(file) as stream:
        try:
            for number, value in enumerate(json_text.items(stream.read), start=1):
                yield Row(number, value)
        except (json.JSONDecodeError, RecursionError) as error:
            what = getattr(error, "msg", "nested too deeply")
            raise UserError(f"{file.path} row {number + 1}: not JSON: {what}; mend the file") from None


def _read_table(file: InputFile, headerless: bool) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    with _text(file) as stream:
        # Not strict, the reader would drop quotation marks that it does not understand.
        reader = csv.reader(stream, delimiter=DELIMITERS[file.kind], strict=True)
        header: list[str] | None = None
        end = 0
        try:
            for cells in reader:
                start, end = end + 1, reader.line_num
                if not cells:
                    continue
                if headerless:
                    yield Row(start, cells)
                elif header is None:
                    header = _header(file, cells)
                elif len(cells) != len(header):
                    yield Row(
                        start,
                        cells,
                        problem=f"its number of cells is {len(cells)}, expected {len(header)}: {_QUOTES}",
                    )
                else:
                    yield Row(start, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise UserError(f"{file.path} line {end + 1}: {error}; {_QUOTES}") from None


_QUOTES = 'put cells with separators or quotation marks into "…", their quotation marks doubled'


def _header(file: InputFile, cells: list[str]) -> list[str]:
    if any("\0" in name for name in cells):
        raise _no_text(file)
    expected = DELIMITERS[file.kind]
    if len(cells) == 1 and (other := next((mark for mark in ";\t,|" if mark in cells[0]), None)):
        raise UserError(
            f"{file.path} line 1: one column, {json_text.shown(cells[0])}: write {expected!r} between cells, "
            f"not {other!r}"
        )
    twice = next((name for at, name in enumerate(cells) if name in cells[:at]), None)
    if twice is not None:
        raise UserError(f"{file.path} line 1: the column {twice!r} stands there twice: rename one")
    return cells


def _read_blocks(file: InputFile, headerless: bool) -> Iterator[Row]:
    block: list[str] = []
    start = 1
    with _text(file) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.rstrip("\r\n")
            if text.strip():
                start = start if block else number
                block.append(text)
            elif block:
                yield Row(start, block)
                block = []
    if block:
        yield Row(start, block)


# Tables of Arrow


def _read_arrow(file: InputFile, headerless: bool) -> Iterator[Row]:
    arrow = pyarrow(file.path)
    batches = map(_without_nan, (_of_parquet if file.kind == "parquet" else _of_folder)(file.path))
    try:
        for number, value in enumerate((value for batch in batches for value in batch.to_pylist()), start=1):
            # Values without JSON, such as dates, become text.
            text = json.dumps(value, ensure_ascii=False, default=str)
            yield Row(number, json_text.loads(text), text)
    except arrow.ArrowException as error:
        raise UserError(f"{file.path} is damaged: {str(error).splitlines()[0]}; get it again") from None


def _without_nan(batch: Any) -> Any:
    """Make NaN missing: programs without missing numbers write it for them, and JSON has none."""
    from pyarrow import types

    for at, column in enumerate(batch.schema):
        if types.is_floating(column.type):
            from pyarrow import compute  # 10 MB that most files do not need

            values = batch.column(at)
            batch = batch.set_column(at, column, compute.if_else(compute.is_nan(values), None, values))
    return batch


def _of_parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    # Unbuffered, pyarrow would read each row group as a whole, and its threads keep memory of their own.
    with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16) as table:
        yield from table.iter_batches(batch_size=_BATCH, use_threads=False)


def _of_folder(path: Path) -> Iterator[Any]:
    from pyarrow import OSFile, ipc

    for part in files_of(path):
        with OSFile(str(part)) as stream, ipc.open_stream(stream) as reader:
            for batch in reader:
                yield from (batch.slice(at, _BATCH) for at in range(0, len(batch), _BATCH))


def arrow_schema(path: Path) -> Any:
    """Read the schema of a Parquet file or of a folder of `datasets`.

    Raises:
        UserError, OSError, pyarrow.ArrowException: it is neither.
    """
    from pyarrow import OSFile, ipc, parquet

    if not path.is_dir():
        return parquet.read_schema(path)
    with OSFile(str(files_of(path)[0])) as stream, ipc.open_stream(stream) as reader:
        return reader.schema


def files_of(path: Path) -> list[Path]:
    """List the files with the data of a path: itself, or the parts of a folder of `datasets`.

    Raises:
        UserError: the folder is no data set.
    """
    if not path.is_dir():
        return [path]
    splits = path / "dataset_dict.json"
    if splits.is_file():
        names = ", ".join(str(path / name) for name in json.loads(splits.read_text("utf-8"))["splits"])
        raise UserError(f"{path} has several splits: name one of {names}")
    try:
        state = json.loads((path / "state.json").read_text("utf-8"))
        return [path / part["filename"] for part in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is a folder: name the file in it (or a folder that `datasets` saved)"
        ) from None


_READERS: dict[str, Callable[[InputFile, bool], Iterator[Row]]] = {
    "lines": _read_lines,
    "array": _read_array,
    "csv": _read_table,
    "tsv": _read_table,
    "blocks": _read_blocks,
    "parquet": _read_arrow,
    "folder": _read_arrow,
}
