"""Parse and write JSON as data sets hold it, and find JSON values inside a model's text.

    loads('{"id": "p1", "score": 1e999}')  ->  {"id": "p1", "score": Number("1e999")}
    dumps({"id": "p1", "score": Number("1e999")})  ->  '{"id": "p1", "score": 1e999}'

Numbers are written back as they were spelled, so that none is rounded or becomes infinite. `loads` accepts
everything that Python's parser does, since old ledgers contain such texts; `flaw` finds what new texts must
not contain.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

DEEPEST = 100  # levels of objects and lists; Python's own parser and writer give up somewhere below 1000
CUT_SHORT = "not JSON, it breaks off: the file was cut short, get the whole of it"
_LONGEST_INTEGER = 1000  # digits that become an int; Python refuses to convert more than 4300
# A lone surrogate cannot be UTF-8, and PostgreSQL's text type rejects NUL.
_UNFIT = re.compile("[\0\ud800-\udfff]")
# The writer marks the text of a number by a NUL, which no text of a data set holds.
_MARKED = re.compile(r'"\\u0000([^"]*)"')


@dataclass(frozen=True)
class Number:
    """A number in its original spelling; only integers of ordinary size become Python numbers."""

    text: str


@dataclass(frozen=True)
class NotANumber:
    """A word that Python's parser accepts as a number although it is not JSON: ``NaN``, ``-Infinity``."""

    word: str


class Repeated(dict[str, Any]):
    """An object with a repeated field, with the last values."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.field = next(name for at, name in enumerate(names) if name in names[:at])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else Repeated(pairs)


def _integer(text: str) -> int | Number:
    return Number(text) if len(text) > _LONGEST_INTEGER or text == "-0" else int(text)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=_integer, parse_constant=NotANumber
)


def loads(text: str) -> Any:
    """Read a JSON text.

    Raises:
        ValueError, RecursionError: it is not JSON, or nested too deeply for Python.
    """
    return _DECODER.decode(text)


def values(text: str) -> Iterator[Any]:
    """Read JSON values that follow each other, such as objects over several lines; raises as `loads`."""
    at = _after_space(text, 0)
    while at < len(text):
        value, end = _DECODER.raw_decode(text, at)
        yield value
        at = _after_space(text, end)


_PIECE = 1 << 18  # characters read at once
_LONGEST_ITEM = 1 << 26  # characters; more text than this without the end of an item is a broken array


def items(read: Callable[[int], str]) -> Iterator[Any]:
    """Read the items of one JSON array from a file in pieces, so that no more than an item is in memory.

    Raises:
        ValueError, RecursionError: it is no array, or nested too deeply for Python.
    """
    text = read(_PIECE)
    at = _after_space(text, 0) + 1
    separators, ended = "]", False
    while True:
        at = _after_space(text, at)
        if text[at : at + 1] == "]" and "]" in separators:
            return
        try:
            start = _after_comma(text, at) if separators == ",]" else at
            value, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError:
            if ended or len(text) - at > _LONGEST_ITEM:
                raise
        else:
            yield value
            at, separators = end, ",]"
            continue
        more = read(max(_PIECE, len(text) - at))
        text, at, ended = text[at:] + more, 0, not more


def _after_comma(text: str, at: int) -> int:
    if text[at : at + 1] != ",":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    return _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def dumps(value: Any) -> str:
    """Write a JSON text on one line, numbers as they were spelled and characters as they are."""
    written = _ENCODER.encode(value)
    return _MARKED.sub(r"\1", written) if "\\u0000" in written else written


def _marked(value: object) -> str | None:
    if isinstance(value, Number):
        return f"\0{value.text}"
    if isinstance(value, NotANumber):
        return None  # only texts of old ledgers hold one
    raise TypeError(f"{type(value).__name__} has no JSON")


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=_marked)


def broken(error: ValueError, *, cut: bool = False) -> str:
    """Say why a line is not JSON; ``cut``: it is a file's last line and has no line end."""
    if not isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    rest = error.doc[error.pos :].strip()
    if cut and (not rest or error.msg.startswith("Unterminated")):
        return CUT_SHORT
    if error.msg == "Extra data" and rest == ",":
        return "not JSON: take the comma after the object away, each line stands alone"
    if error.doc.startswith("{'"):
        return "not JSON but Python's own notation: write it with json.dumps"
    excerpt = f", found {rest[:10]!r}" if rest else ""
    return f"not JSON: {error.msg} at column {error.pos + 1}{excerpt}"


def shown(value: Any, longest: int = 40) -> str:
    """Format a value for an error message, truncated if it is long."""
    text = dumps(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def flaw(value: Any) -> tuple[str, str] | None:
    """Find the first flaw of a parsed text: its field and a description; ``None``: there is none."""
    return next(_flaws(value, "", 1), None)


def _flaws(value: Any, where: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield from _unfit(value, where)
    elif isinstance(value, NotANumber):
        yield where, f"{value.word} is no JSON number: write null or a number"
    elif isinstance(value, dict | list) and depth > DEEPEST:
        yield f"{where[:40]}…", f"nested deeper than {DEEPEST} levels: write it flatter, or as text"
    elif isinstance(value, dict):
        if isinstance(value, Repeated):
            yield where, f"the field {shown(value.field)} stands twice in this object: take one out"
        for name, inner in value.items():
            yield from _unfit(name, where)
            yield from _flaws(inner, below(where, name), depth + 1)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from _flaws(inner, below(where, at), depth + 1)


def _unfit(text: str, where: str) -> Iterator[tuple[str, str]]:
    if unfit := _UNFIT.search(text):
        yield where, f"the character {unfit[0]!a} cannot be stored: take it out"


def below(where: str, part: str | int) -> str:
    """Name a field by its path: ``questions[0].answer``."""
    if isinstance(part, int):
        return f"{where}[{part}]"
    return f"{where}.{part}" if where else part


FAULTS = 200  # brackets without a value; each of them costs a scan of the text before it


@dataclass(frozen=True)
class Embedded:
    """A value and its position in the text."""

    start: int
    end: int
    value: Any


def find(text: str, opening: str) -> Iterator[Embedded]:
    """Find the outermost values that begin with ``opening``: ``{`` for objects, ``[`` for arrays.

    The search ends after `FAULTS` brackets without a value, or at a value that is nested too deeply.
    """
    # Models break lines inside strings, which only the lenient decoder accepts.
    decoder = json.JSONDecoder(strict=False)
    start, faults = text.find(opening), 0
    while start >= 0 and faults < FAULTS:
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # Do not parse the text before the fault again.
            end, faults = max(error.pos, start + 1), faults + 1
        except RecursionError:
            return
        except ValueError:  # a number of thousands of digits
            end, faults = start + 1, faults + 1
        else:
            yield Embedded(start, end, value)
        start = text.find(opening, end)
