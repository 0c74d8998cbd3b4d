"""Data sets: JSON Lines, one entry (a problem with its questions) a line.

    {"id": "p1", "problem": "甲比乙高。", "questions": [
        {"question": "谁高？", "options": ["甲", "乙"], "answer": "A", "reasoning": "……\\n答案是：A"}]}

`wrong` (on a question) lists reasonings for wrong letters; `program` is Python that prints the answer. An
object `votequeue` records the source of an entry or a text. All other fields are the user's own: they are
kept and written back, but never read.
"""

import codecs
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import stat
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

from shared import dataset_errors, file_detection, json_text, legacy_entries
from shared.errors import UserError
from shared.source_rows import SourceRows

LETTERS = string.ascii_uppercase
ORIGINALS = ("", "original")
LONGEST_ID = 300  # characters; PostgreSQL's index takes no key of more than 2,700 bytes


def _unlabelled(value: object) -> object:
    return None if value == "" else value


def _none(value: object) -> object:
    return [] if value is None else value


Letter = Annotated[StrictStr, Field(pattern=r"^[A-Z]$")]


class TextProvenance(BaseModel):
    """How a text was generated: label, origin, provider, model and prompt version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: StrictStr | None = None
    origin: StrictStr | None = None
    provider: StrictStr | None = None
    model: StrictStr | None = None
    prompt: StrictStr | None = None


class QuestionProvenance(TextProvenance):
    """How a question's reasoning was generated, and its program."""

    program: TextProvenance | None = None


class Provenance(BaseModel):
    """The source of an entry, and the group that it is held out with.

    ``group`` is the `identity` of the original's problem, or a name of the user's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    origin: StrictStr | None = None
    group: StrictStr | None = None


class WrongReasoning(BaseModel):
    """A reasoning that ends in a wrong letter, or in none (``answer`` null): a negative for the scorer."""

    model_config = ConfigDict(frozen=True)
    answer: Letter | None
    reasoning: StrictStr
    votequeue: TextProvenance | None = None


class Question(BaseModel):
    """One single-choice question; ``answer`` is the right option's letter, where it is known."""

    model_config = ConfigDict(frozen=True)
    question: StrictStr
    options: list[StrictStr] = Field(min_length=2, max_length=len(LETTERS))
    answer: Annotated[Letter | None, BeforeValidator(_unlabelled)] = None
    reasoning: StrictStr | None = None
    program: StrictStr | None = None
    wrong: Annotated[list[WrongReasoning], BeforeValidator(_none)] = []
    votequeue: QuestionProvenance | None = None

    @model_validator(mode="after")
    def _letters_are_options(self) -> "Question":
        answers: list[tuple[list[str | int], str | None]] = [(["answer"], self.answer)]
        answers += [(["wrong", at, "answer"], wrong.answer) for at, wrong in enumerate(self.wrong)]
        for where, letter in answers:
            if letter is not None and letter not in self.letters:
                raise PydanticCustomError("letter", "no such option", {"field": where, "value": letter})
        return self

    @property
    def letters(self) -> str:
        """Give the letters of the options: ``"ABCD"`` for four."""
        return LETTERS[: len(self.options)]

    @property
    def wrong_letters(self) -> str:
        """Give the letters of wrong options, cyclically from the right one on; none if it is unknown.

        Some files have the right option's text under two letters: neither of them is wrong.
        """
        if self.answer is None:
            return ""
        at, texts = self.letters.index(self.answer), [text.strip() for text in self.options]
        others = self.letters[at + 1 :] + self.letters[:at]
        return "".join(letter for letter in others if texts[self.letters.index(letter)] != texts[at])


class Entry(BaseModel):
    """One problem with its questions, as one line of a data set."""

    model_config = ConfigDict(frozen=True)
    id: StrictStr | Annotated[int, Field(strict=True)]
    problem: StrictStr
    questions: list[Question] = Field(min_length=1)
    votequeue: Provenance | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_older_exports(cls, data: object) -> object:
        return legacy_entries.renamed(data) if isinstance(data, dict) else data

    @property
    def origin(self) -> str | None:
        """Give how the entry was derived from another one, if it was."""
        return self.votequeue.origin if self.votequeue else None

    @property
    def group(self) -> str:
        """Give the group that the entry is held out with: its original's problem, or its own."""
        return (self.votequeue and self.votequeue.group) or unit(self)

    @property
    def augmented(self) -> bool:
        """Tell whether this entry was derived from another one: such entries are never retrieved."""
        return (self.origin or "") not in ORIGINALS


@dataclass(frozen=True)
class BadLine:
    """An unusable line (or row: ``unit``), and the reason; ``text`` is its JSON, if it is any."""

    path: Path
    line: int
    field: str
    problem: str
    unit: str = "line"
    text: str = dataclasses.field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        where = f"{self.path} {self.unit} {self.line}"
        return f"{where}, {self.field}: {self.problem}" if self.field else f"{where}: {self.problem}"


@dataclass(frozen=True)
class Line:
    """A valid line: its number (from 1), its entry's JSON text, and the entry.

    ``source`` has the rows of the file behind the entry, unless they are the text itself.
    """

    number: int
    text: str
    entry: Entry = field(repr=False)
    source: SourceRows | None = field(default=None, repr=False)


def key(entry_id: str | int, index: int) -> str:
    """Name a question by entry id and its position in the entry, from 1: ``p1#2``."""
    return f"{entry_id}#{index + 1}"


def identity(text: str) -> str:
    """Give a text's identity: 16 hex digits of the sha256 of the text without white space."""
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:16]


def problem_identity(problem: str, question: str, options: Iterable[str]) -> str:
    """Give the identity of the problem that a question is about; without a text, it is its own problem."""
    return _identity(problem, (question, *options))


def _identity(problem: str, asked: Iterable[str]) -> str:
    return identity(problem if problem.strip() else "\0".join(asked))


def unit(entry: Entry) -> str:
    """Name what is resampled or held out together: copies of its problem, or, without a text, of itself."""
    asked = (text for each in entry.questions for text in (each.question, *each.options))
    return _identity(entry.problem, asked)


def entry_of(text: str) -> Entry:
    """Parse an entry's text from the ledger; it was validated before it was recorded."""
    return Entry.model_validate(json_text.loads(text))


# Faster than `json_text`, which keeps the spelling of numbers and finds repeated fields.
_FIELDS = json.JSONDecoder(parse_int=str, parse_float=str)


@dataclass
class EntryText:
    """An entry's text from the ledger; each part of it is parsed when it is needed first."""

    text: str

    @functools.cached_property
    def entry(self) -> Entry:
        """Give the whole entry."""
        return entry_of(self.text)

    @functools.cached_property
    def answers(self) -> list[str | None]:
        """Give the right letter of each question; ``None`` where the data set lacks it."""
        return [question.get("answer") or None for question in self._fields["questions"]]

    @functools.cached_property
    def problem(self) -> str:
        """Give the problem."""
        return str(self._fields["problem"])

    @functools.cached_property
    def unit(self) -> str:
        """Give the entry's `unit`."""
        return identity(self.problem) if self.problem.strip() else unit(self.entry)

    def problem_identity(self, question: int) -> str:
        """Give the `problem_identity` of one of its questions."""
        if self.problem.strip():
            return identity(self.problem)
        asked = self.entry.questions[question]
        return problem_identity("", asked.question, asked.options)

    @functools.cached_property
    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = _FIELDS.decode(self.text)
        return fields


def scan(path: Path, lines: Iterable[tuple[int, bytes]] | None = None) -> Iterator[Line | BadLine]:
    """Read a data set line by line, as valid or bad lines; only the ids are kept in memory.

    ``lines`` replaces the file's own lines, for a compressed file.

    Raises:
        UserError: the file itself cannot be read (missing, a directory, no permission, empty), or it is
            not a JSON Lines data set.
    """
    lines_by_id: dict[str, int] = {}
    detected = lines is not None
    for number, raw in raw_lines(path) if lines is None else lines:
        parsed = _parse(path, number, raw)
        if isinstance(parsed, Line):
            first = lines_by_id.setdefault(str(parsed.entry.id), number)
            if first != number:
                problem = f"{json_text.shown(parsed.entry.id)} stands on line {first} already"
                parsed = BadLine(path, number, "id", problem, text=parsed.text)
        elif not detected:
            detected = True
            _require_lines(path)
        yield parsed
    if not lines_by_id and not detected:
        raise UserError(f"{path} is empty: it should hold one JSON object a line")


def _require_lines(path: Path) -> None:
    try:
        description = file_detection.other_kind(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if description:
        raise UserError(description)


def read(path: Path) -> Iterator[Entry]:
    """Read a data set in which every line must be valid.

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
        raise unreadable(path, error) from None


def with_answers(text: str, letters: Iterable[str | None]) -> dict[str, Any]:
    """Give an entry's JSON with answers filled in, in its own field order.

    ``letters`` has one letter a question, ``None`` if there is no answer. A gold letter is then blanked, or
    it would look like an answer.
    """
    return filled(json_text.loads(text), letters)


def filled(entry: dict[str, Any], letters: Iterable[str | None]) -> dict[str, Any]:
    """Fill answers into an entry, as `with_answers` does."""
    for question, letter in zip(entry["questions"], letters, strict=True):
        if letter is not None:
            question["answer"] = letter
        elif question.get("answer"):
            question["answer"] = ""
    return entry


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Any]:
    """Write a text file atomically: it appears under its name once it is complete.

    Symbolic links are followed, and an existing file keeps its permissions.

    Raises:
        UserError: the folder does not exist or cannot be written, the disk is full, or the
            existing file must not be overwritten.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    require_writable(path)
    temporary: Path | None = None
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        # A lone surrogate cannot be UTF-8; the backslash form is what JSON writes for it anyway.
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors="backslashreplace",
            dir=target.parent,
            prefix=f".{target.name[:100]}.",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def require_writable(path: Path) -> None:
    """Check that a path is not a folder, a device or a write-protected file.

    Raises:
        UserError: it is one of these.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a device or a pipe: name a file to write")
    if path.exists() and not os.access(path, os.W_OK):
        raise UserError(f"{path} is write-protected: name another file")


def write(entries: Iterable[dict[str, Any]], path: Path) -> int:
    """Write entries as JSON Lines, all or none; give their number."""
    count = 0
    with writing(path) as file:
        for entry in entries:
            file.write(json_text.dumps(entry) + "\n")
            count += 1
    return count


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Read the lines of a file that are not blank, with their numbers.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield from numbered(file)
    except OSError as error:
        raise unreadable(path, error) from None


def numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Number lines from 1, and leave out those that are blank."""
    for number, raw in enumerate(lines, start=1):
        if raw.removeprefix(codecs.BOM_UTF8).strip():
            yield number, raw


def unreadable(path: Path, error: OSError) -> UserError:
    """Describe why a file cannot be read."""
    if path.is_dir():
        return UserError(f"{path} is a folder: name the JSON Lines file in it")
    return UserError(f"cannot read {path}: {error.strerror or error}")


def _parse(path: Path, number: int, raw: bytes) -> Line | BadLine:
    try:
        text, value = parse_line(raw)
    except ValueError as error:
        return BadLine(path, number, "", str(error))
    entry = checked(value)
    if isinstance(entry, Entry):
        return Line(number, text, entry)
    return BadLine(path, number, *entry, text=text)


def parse_line(raw: bytes) -> tuple[str, Any]:
    """Read a line of JSON; return its text and its value.

    Raises:
        ValueError: it is not UTF-8 or not JSON; the message says why.
    """
    try:
        text = raw.decode("utf-8-sig").strip()
        return text, json_text.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(_no_json(raw, error)) from None


def _no_json(raw: bytes, error: ValueError | RecursionError) -> str:
    if b"\0" in raw:
        return "it has NUL bytes, as a crash or a full disk leaves them: get it again"
    if isinstance(error, RecursionError):
        return f"nested deeper than {json_text.DEEPEST} levels: write it flatter"
    if isinstance(error, UnicodeDecodeError):
        cut = file_detection.breaks_off(raw, error)
        return json_text.CUT_SHORT if cut else f"not UTF-8 (byte {error.start + 1}): save the file as UTF-8"
    return json_text.broken(error, cut=not raw.endswith(b"\n"))


def checked(value: Any, flawless: bool = False) -> Entry | tuple[str, str]:
    """Parse a line into its entry, or into its first problem: where it is, and what.

    ``flawless``: `json_text.flaw` was asked already.
    """
    if not isinstance(value, dict):
        return "", f"found {json_text.shown(value)}, expected a JSON object"
    if not flawless and (flaw := json_text.flaw(value)):
        return flaw
    try:
        entry = Entry.model_validate(value)
    except ValidationError as error:
        return dataset_errors.first_problem(error, value)
    return _first_unusable(entry) or entry


def _first_unusable(entry: Entry) -> tuple[str, str] | None:
    """Find values that older ledgers may contain, but new data sets must not."""
    if len(str(entry.id)) > LONGEST_ID:
        return "id", f"it is {len(str(entry.id))} characters long, expected at most {LONGEST_ID}"
    for at, question in enumerate(entry.questions):
        for place, option in enumerate(question.options):
            if not option.strip():
                return f"questions[{at}].options[{place}]", f"option {LETTERS[place]} is empty, expected text"
    return None
