"""Detect what a file is that is no JSON Lines, and say in one sentence what to do about it.

    other_kind(Path("train.jsonl.xz"))
        ->  "train.jsonl.xz is compressed with xz: unpack it first (unxz < train.jsonl.xz > train.jsonl)"

Kinds that `producers.containers` reads are not among them.

Asked only once a line of a file turned out to be bad, so good files never pay for it. The file is looked at,
never converted, and nothing but its own bytes is trusted: names and endings lie.
"""

import csv
import json
import re
import shlex
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared import json_text

NEEDED = ("id", "problem", "questions")
_HEAD = 1 << 16  # bytes that a kind is detected from
_WHOLE = 1 << 27  # bytes up to which a file is read as one JSON text
_TEMPLATE = "a table is read if its name ends in .csv or .tsv"

# First bytes, what they stand for, and what to do; {file} is the file and {new} a name for what comes of it.
_UNPACK = "unpack it first ({} < {{file}} > {{new}})"
_CONVERT = "write it as JSON Lines first"
_NAME = "name the JSON Lines file"
_MAGIC = (
    (b"BZh", "compressed with bzip2", _UNPACK.format("bunzip2")),
    (b"\xfd7zXZ\0", "compressed with xz", _UNPACK.format("unxz")),
    (b"\x04\x22\x4d\x18", "compressed with lz4", _UNPACK.format("lz4 -d")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first (7z x {file})"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first (unrar x {file})"),
    (b"ARROW1", "an Arrow table", _CONVERT),
    (b"SQLite format 3\0", "an SQLite database", "write a query's rows as JSON Lines first"),
    (b"%PDF", "a PDF document", "copy its questions into JSON Lines"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", "save its table as CSV (UTF-8)"),
    (b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (b"\x93NUMPY", "a NumPy file", _CONVERT),
    (b"\x89PNG", "a picture", _NAME),
    (b"\xff\xd8\xff", "a picture", _NAME),
    (b"\x7fELF", "a program", _NAME),
    (b"\x80\x04\x95", "a Python pickle", _CONVERT),
    (b"\x80\x05\x95", "a Python pickle", _CONVERT),
    (
        b"version https://git-lfs",
        "a Git LFS pointer instead of the data",
        "get the file itself (git lfs pull)",
    ),
)
_BOMS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_MARKUP = (
    (
        re.compile(r"<!doctype html|<html|<head|<body", re.IGNORECASE),
        "an HTML page, perhaps a login or an error page",
        "download the file itself",
    ),
    (re.compile(r"<\?xml|<[A-Za-z][\w:-]*[\s>/]"), "an XML document", "write each entry as a JSON object"),
    (re.compile(r"%YAML|---\s*\n|- \w+: "), "a YAML document", "write each entry as a JSON object"),
)


def other_kind(path: Path, is_text: bool = False) -> str | None:
    """Describe a file that is not a JSON Lines data set; ``None`` if it is one, or cannot be recognised.

    ``is_text``: it may be a text of any kind in UTF-8.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    description = _by_bytes(path, head) or _by_encoding(path, head)
    if description:
        return f"{path} is {description}"
    survey = _survey(path)
    description = _by_wrong_encoding(path, survey)
    if not is_text:
        description = (
            description
            or _by_line_ends(path, head, survey)
            or _by_whole(path, survey)
            or _by_text(head, survey)
        )
    return f"{path} {description}" if description else None


def _to(path: Path, word: str = "converted") -> str:
    """Name what a conversion makes: ``a.json`` -> ``a.jsonl``, if there is none, or ``a-converted.jsonl``.

    A file in another encoding keeps its ending: ``a.csv`` -> ``a-utf8.csv``.
    """
    if word == "utf8":
        return shlex.quote(str(path.with_name(f"{path.stem}-utf8{path.suffix}")))
    stem = path.stem.removesuffix(".jsonl").removesuffix(".json")
    new = path.with_name(f"{stem}.jsonl")
    return shlex.quote(str(path.with_name(f"{stem}-{word}.jsonl") if new.exists() else new))


def _filled(path: Path, advice: str, word: str = "converted") -> str:
    return advice.replace("{file}", shlex.quote(str(path))).replace("{new}", _to(path, word))


# By its first bytes


def _by_bytes(path: Path, head: bytes) -> str | None:
    for magic, what, advice in _MAGIC:
        if head.startswith(magic):
            return f"{what}: {_filled(path, advice, 'unpacked')}"
    if head[257:262] == b"ustar":
        return f"a tar archive: {_filled(path, 'unpack it first (tar -xf {file})')}"
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    return None


def _zipped(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook: save its sheet as CSV (UTF-8)"
    if any(name.startswith(("word/", "ppt/", "content.xml")) for name in names):
        return "an Office document: copy its questions into JSON Lines"
    return _filled(path, "a zip archive: unpack it first (unzip {file})")


def _by_encoding(path: Path, head: bytes) -> str | None:
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None) or _without_bom(head)
    if encoding:
        advice = f"text in {encoding}: write it as UTF-8 (iconv -f {encoding} -t UTF-8 {{file}} > {{new}})"
        return _filled(path, advice, "utf8")
    return None


def _without_bom(head: bytes) -> str | None:
    """Recognise UTF-16 and UTF-32 by their first two characters, which are ASCII in JSON and in tables."""
    for encoding in ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE"):
        start = head[:8].decode(encoding, "replace")[:2]
        if len(start) == 2 and start.isascii() and start.isprintable():
            return encoding
    return None


# By its lines


@dataclass
class _Survey:
    """Counts of a file's lines by kind; ``first`` is the first that is not blank."""

    lines: int = 0
    objects: int = 0
    fitting: int = 0
    json: int = 0
    undecodable: int = 0
    non_ascii: int = 0
    first_undecodable: tuple[int, int] = (0, 0)
    raw: bytearray = field(default_factory=bytearray)
    first: str = ""
    first_problem: str = ""
    fields: Counter[str] = field(default_factory=Counter)

    def add(self, number: int, raw: bytes) -> None:
        self.lines += 1
        try:
            text = raw.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            if breaks_off(raw, error):
                return
            self.undecodable += 1
            self.first_undecodable = self.first_undecodable if self.raw else (number, error.start + 1)
            if len(self.raw) < _HEAD:
                self.raw += raw
            return
        self.non_ascii += not raw.isascii()
        try:
            value = json_text.loads(text)
        except (ValueError, RecursionError) as error:
            if not self.first and isinstance(error, ValueError):
                self.first_problem = json_text.broken(error)
            self.first = self.first or text
            return
        self.first = self.first or text
        self.json += 1
        if isinstance(value, dict):
            self.objects += 1
            self.fitting += all(name in value for name in NEEDED)
            self.fields.update(value.keys())


def breaks_off(raw: bytes, error: UnicodeDecodeError) -> bool:
    """Tell whether a line is a file's last and ends within a character: the file is truncated."""
    return error.reason == "unexpected end of data" and not raw.endswith(b"\n")


def _survey(path: Path) -> _Survey:
    survey = _Survey()
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                survey.add(number, raw)
    return survey


def _by_wrong_encoding(path: Path, survey: _Survey) -> str | None:
    # Where other lines are good UTF-8 beyond ASCII, the file is damaged, and its bad lines are named.
    if not survey.undecodable or survey.non_ascii:
        return None
    raw = bytes(survey.raw)
    if _is_binary(raw):
        return "is a binary file: name the JSON Lines file"
    encoding, name = _guessed(raw)
    line, byte = survey.first_undecodable
    advice = f"write it as UTF-8 (iconv -f {encoding} -t UTF-8 {{file}} > {{new}})"
    return f"is not UTF-8 (line {line}, byte {byte}), perhaps {name}: {_filled(path, advice, 'utf8')}"


def _is_binary(raw: bytes) -> bool:
    return any(byte < 0x09 or 0x0D < byte < 0x1B for byte in raw)


def _guessed(raw: bytes) -> tuple[str, str]:
    """Guess an old encoding: in Chinese, almost all characters beyond ASCII are of its first, common part."""
    shares = {
        ("GB18030", "GBK"): _common(raw, "gb18030", b"\xa1\xa1", b"\xd7\xfe"),
        ("BIG5", "Big5"): _common(raw, "big5", b"\xa1\x40", b"\xc6\x7e"),
        ("WINDOWS-1252", "Latin-1"): 0.8,
    }
    return max(shares, key=lambda guess: shares[guess])


def _common(raw: bytes, encoding: str, first: bytes, last: bytes) -> float:
    text = raw.decode(encoding, "ignore")
    wide = [character.encode(encoding) for character in text if character > "\x7f"]
    common = sum(len(code) == 2 and first <= code <= last and code[1] >= first[1] for code in wide)
    return common / len(wide) if wide else 0.0


def _by_whole(path: Path, survey: _Survey) -> str | None:
    starts_object = survey.first.startswith("{") and (survey.first_problem or survey.lines == 1)
    if not starts_object or path.stat().st_size > _WHOLE:
        return None
    try:
        values = list(json_text.values(path.read_bytes().decode("utf-8-sig", "replace")))
    except (ValueError, RecursionError) as error:
        return _broken_whole(survey, error)
    return _describe_whole(path, values, survey)


def _broken_whole(survey: _Survey, error: Exception) -> str | None:
    if survey.fitting or survey.lines < 2 or not isinstance(error, json.JSONDecodeError) or error.lineno == 1:
        return None
    return (
        f"is JSON over several lines, and broken at line {error.lineno} ({error.msg}): "
        "mend it, then write one JSON object a line (jq -c)"
    )


def _describe_whole(path: Path, values: list[Any], survey: _Survey) -> str | None:
    advice = " (jq -c {filter} {{file}} > {{new}})"
    if len(values) == 1 and isinstance(values[0], dict):
        lists = [
            name
            for name, value in values[0].items()
            if isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
        ]
        if lists and not any(name in values[0] for name in ("problem", "id")):
            name = json_text.shown(lists[0])
            description = f"is one JSON object whose entries are in {name}: write one entry a line"
            chosen = shlex.quote(f".[{json.dumps(lists[0], ensure_ascii=False)}][]")
            return description + _filled(path, advice.format(filter=chosen))
    if all(isinstance(item, dict) for item in values) and (len(values) > 1 or survey.lines > 1):
        how = "its objects over several lines" if survey.lines > 1 else "several objects on one line"
        description = f"is JSON with {how}: write each object on a line of its own"
        return description + _filled(path, advice.format(filter="."))
    return None


def _by_text(head: bytes, survey: _Survey) -> str | None:
    if survey.fitting:
        return None
    if survey.objects and survey.objects == survey.json:
        return _other_layout(survey)
    return _document(head) or _no_objects(head, survey)


def _by_line_ends(path: Path, head: bytes, survey: _Survey) -> str | None:
    if survey.lines > 1 or survey.json or b"\r" not in head.strip():
        return None
    advice = "has the line ends of old Macs (CR): write LF (tr '\\r' '\\n' < {file} > {new})"
    return _filled(path, advice)


def _document(head: bytes) -> str | None:
    text = head.decode("utf-8-sig", "replace").lstrip()
    for pattern, what, advice in _MARKUP:
        if pattern.match(text):
            return f"is {what}: {advice}"
    if not text.startswith(("[", "{")) and (table := _table(text, len(head) == _HEAD)):
        return f"is {table}: write each row as a JSON object with {_and(NEEDED)}; {_TEMPLATE}"
    return None


def _no_objects(head: bytes, survey: _Survey) -> str | None:
    if survey.lines < 2:
        return None
    if _is_binary(head):
        return "is a binary file: name the JSON Lines file"
    why = survey.first_problem or f"it is {survey.first[:40]!r}"
    return f"is not JSON Lines: none of its {survey.lines} lines is a JSON object (of the first one: {why})"


def _other_layout(survey: _Survey) -> str | None:
    """Describe objects that are not entries: they all lack the same fields."""
    missing = [name for name in NEEDED if not survey.fields[name]]
    if not missing or (survey.lines < 2 and len(missing) < 2):
        return None
    there = ", ".join(list(survey.fields)[:8]) or "none"
    each = "its JSON object has" if survey.lines == 1 else "its JSON objects have"
    return (
        f"is in another layout: {each} the fields {there}, and {_and(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing; use --format or --map for another layout, or write "
        f"entries with {_and(NEEDED)}; see docs/data.md"
    )


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _table(text: str, cut: bool) -> str | None:
    """Detect a table: two or more columns, the same number in each of its first rows."""
    for delimiter, name in (
        ("\t", "a TSV table"),
        (",", "a CSV table"),
        (";", "a CSV table"),
        ("|", "a table"),
    ):
        rows = list(_rows(text, delimiter))
        rows = rows[:-1] if cut else rows
        widths = {len(row) for row in rows}
        if len(rows) > 1 and len(widths) == 1 and min(widths) > 1:
            columns = ", ".join(column.strip() or "(no name)" for column in rows[0][:8])
            return f"{name} with the columns {columns}"
    return None


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    try:
        for row in csv.reader(text.splitlines(keepends=True)[:200], delimiter=delimiter, strict=True):
            if row:
                yield row
    except csv.Error:
        # Within a field that the sample cuts off, or no table at all: the rows before count.
        return
