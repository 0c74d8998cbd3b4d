"""Data sets: JSON Lines, one entry (a problem with its questions) a line.

    {"id": "p1", "problem": "甲比乙高。", "questions": [
        {"question": "谁高？", "options": ["甲", "乙"], "answer": "A", "reasoning": "……\\n答案是：A"}]}

Fields beyond these are kept and written back. `wrong` (on a question) lists reasonings for wrong letters;
`origin` (on an entry) names how an augmented entry was made, `group` the original that it must stay with when
texts are held out (the `identity` of its problem, or a name of the user's own); `made` (beside a text) tells
who wrote it. What entries are for is not known here.
"""

import contextlib
import hashlib
import json
import os
import re
import string
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from shared.errors import UserError

LETTERS = string.ascii_uppercase
ORIGINALS = ("", "original")
# Half a surrogate pair has no UTF-8, and NUL (which JSON spells as below) no place in PostgreSQL's text.
_UNFIT = re.compile(r"[\ud800-\udfff]|(?<!\\)(?:\\\\)*\\u0000")


def _unlabelled(value: object) -> object:
    return None if value == "" else value


Letter = Annotated[StrictStr, Field(pattern=r"^[A-Z]$")]


class Made(BaseModel):
    """How a text was made: for a right or a wrong letter, how, by whom, with which version of the prompt."""

    model_config = ConfigDict(frozen=True)
    label: StrictStr | None = None
    origin: StrictStr | None = None
    provider: StrictStr | None = None
    model: StrictStr | None = None
    prompt: StrictStr | None = None


class WrongReasoning(BaseModel):
    """A reasoning that ends in a wrong letter, or in none (``answer`` null): a negative for the scorer."""

    model_config = ConfigDict(frozen=True)
    answer: Letter | None
    reasoning: StrictStr
    made: Made | None = None


class Question(BaseModel):
    """One single-choice question; ``answer`` is the right option's letter, where it is known."""

    model_config = ConfigDict(frozen=True)
    question: StrictStr
    options: list[StrictStr] = Field(min_length=2, max_length=len(LETTERS))
    answer: Annotated[Letter | None, BeforeValidator(_unlabelled)] = None
    reasoning: StrictStr | None = None
    wrong: list[WrongReasoning] = []
    made: Made | None = None

    @model_validator(mode="after")
    def _letters_are_options(self) -> "Question":
        for where, letter in [("answer", self.answer), *(("wrong", w.answer) for w in self.wrong)]:
            if letter is not None and letter not in self.letters:
                raise PydanticCustomError(
                    "letter",
                    "{where} '{letter}' is not one of the {n} options (A-{last})",
                    {"where": where, "letter": letter, "n": len(self.options), "last": self.letters[-1]},
                )
        return self

    @property
    def letters(self) -> str:
        """Give the letters that are options here: ``"ABCD"`` for four."""
        return LETTERS[: len(self.options)]

    @property
    def wrong_letters(self) -> str:
        """Give the wrong options' letters, from the right one onwards and round; none where it is unknown.

        Real files have the right option's text under two letters: neither of them is wrong.
        """
        if self.answer is None:
            return ""
        at, texts = self.letters.index(self.answer), [text.strip() for text in self.options]
        others = self.letters[at + 1 :] + self.letters[:at]
        return "".join(one for one in others if texts[self.letters.index(one)] != texts[at])


class Entry(BaseModel):
    """One problem with its questions, as one line of a data set."""

    model_config = ConfigDict(frozen=True)
    id: StrictStr | Annotated[int, Field(strict=True)]
    problem: StrictStr
    questions: list[Question] = Field(min_length=1)
    origin: StrictStr | None = None
    group: StrictStr | None = None

    @property
    def augmented(self) -> bool:
        """Tell whether this entry was made from another one: such an entry is never retrieved."""
        return (self.origin or "") not in ORIGINALS


@dataclass(frozen=True)
class BadLine:
    """A line that cannot be used, and why."""

    path: Path
    line: int
    field: str
    problem: str

    def __str__(self) -> str:
        where = f"{self.path} line {self.line}"
        return f"{where}, {self.field}: {self.problem}" if self.field else f"{where}: {self.problem}"


@dataclass(frozen=True)
class Line:
    """A good line: its number (from 1), its text as it stood in the file, and what it says."""

    number: int
    text: str
    entry: Entry = field(repr=False)


def key(entry_id: str | int, index: int) -> str:
    """Name a question: entry id and its place in the entry, from 1, as in ``p1#2``."""
    return f"{entry_id}#{index + 1}"


def identity(text: str) -> str:
    """Give what two copies of one text share: 16 hex digits of the sha256 of it without its white space."""
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:16]


def scan(path: Path) -> Iterator[Line | BadLine]:
    """Read a data set line by line, giving each line as good or bad; memory stays flat but for the ids.

    Raises:
        UserError: the file itself cannot be read (missing, a directory, no permission, empty).
    """
    seen: dict[str, int] = {}
    for number, raw in _raw_lines(path):
        parsed = _parse(path, number, raw)
        if isinstance(parsed, Line):
            first = seen.setdefault(str(parsed.entry.id), number)
            if first != number:
                parsed = BadLine(path, number, "id", f"{parsed.entry.id!r} stands on line {first} already")
        yield parsed
    if not seen:
        # A file of bad lines only has had its say; one with no lines at all must say something too.
        with path.open("rb") as file:
            if not file.read(1 << 16).strip():
                raise UserError(f"{path} is empty: it should hold one JSON object a line")


def read(path: Path) -> Iterator[Entry]:
    """Read a data set whose every line must be good.

    Raises:
        UserError: at the first bad line, or as `scan`.
    """
    for line in scan(path):
        if isinstance(line, BadLine):
            raise UserError(str(line))
        yield line.entry


def digest(path: Path) -> str:
    """Give the sha256 of a file's bytes, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def with_answers(text: str, letters: Iterable[str | None]) -> dict[str, Any]:
    """Give an entry's JSON with answers filled in, its own field order kept.

    ``letters`` has one letter a question, ``None`` where there is no answer: a gold letter that stood there
    is blanked, since it would pass for one.
    """
    entry: dict[str, Any] = json.loads(text)
    for question, letter in zip(entry["questions"], letters, strict=True):
        if letter is not None:
            question["answer"] = letter
        elif question.get("answer"):
            question["answer"] = ""
    return entry


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Any]:
    """Open a text file that appears under its name only when everything was written.

    Raises:
        UserError: the folder does not exist or cannot be written, the disk is full, the path is a folder.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    temporary: Path | None = None
    try:
        # A lone surrogate cannot be UTF-8; the backslash form is what JSON writes for it anyway.
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            dir=path.parent,
            prefix=f".{path.name}.",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write(entries: Iterable[dict[str, Any]], path: Path) -> int:
    """Write entries as JSON Lines, all or nothing; give how many there were."""
    count = 0
    with writing(path) as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            count += 1
    return count


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.strip():
                    yield number, raw
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    if path.is_dir():
        return UserError(f"{path} is a folder: name the JSON Lines file in it")
    return UserError(f"cannot read {path}: {error.strerror or error}")


def _parse(path: Path, number: int, raw: bytes) -> Line | BadLine:
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return BadLine(path, number, "", f"not UTF-8 (byte {error.start + 1}): save the file as UTF-8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return BadLine(path, number, "", f"not JSON: {error}")
    if not isinstance(value, dict):
        return BadLine(path, number, "", f"a JSON object is expected, this is a {type(value).__name__}")
    if unfit := _UNFIT.search(json.dumps(value, ensure_ascii=False)):
        return BadLine(path, number, "", f"the character {unfit[0]!a} cannot be stored: take it out")
    try:
        return Line(number, text, Entry.model_validate(value))
    except ValidationError as error:
        return BadLine(path, number, *_first_problem(error))


def _first_problem(error: ValidationError) -> tuple[str, str]:
    first = error.errors()[0]
    # The union of id's two types reports once a type: its own names are noise to a reader.
    parts = [p for p in first["loc"] if p not in ("str", "int", "constrained-str", "constrained-int")]
    where = ""
    for part in parts:
        where += f"[{part}]" if isinstance(part, int) else (f".{part}" if where else str(part))
    message = {"missing": "the field is missing", "too_short": "it is empty or too short"}.get(first["type"])
    if first["type"] == "too_short" and parts[-1:] == ["options"]:
        message = f"at least 2 options are needed, there are {first['ctx']['actual_length']}"
    return where, message or first["msg"]
