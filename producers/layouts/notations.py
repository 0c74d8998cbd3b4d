"""How a layout writes the right option: a letter, an index from 0 or 1, the option's text, or its key.

    NOTATIONS["index-0"].read("label", 2, ["甲", "乙", "丙"])  ->  "C"
    NOTATIONS["index-0"].write("C", ["甲", "乙", "丙"], before="1")  ->  "2"

An answer is written back in the type and the case that the row had.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from producers.layouts.types import RowProblem, found, text_of
from shared import json_text
from shared.dataset import LETTERS

_SEVERAL = "one right option: the row is not single-choice"


@dataclass(frozen=True)
class Notation(ABC):
    """A way to name one of the options; ``keys`` are the names that the row gives them."""

    name: str

    def read(self, field: str, value: Any, options: Sequence[Any], keys: Sequence[Any] = ()) -> str | None:
        """Return the letter of an answer, the value of a ``field``; ``None`` if none is given.

        Raises:
            RowProblem: it names no option, or several.
        """
        if isinstance(value, list):
            if len(value) > 1:
                raise RowProblem(field, found(value, _SEVERAL))
            value = value[0] if value else None
        if value is None or value == "":
            return None
        place = self._place(value, options, keys)
        if place is None or not 0 <= place < len(options):
            raise RowProblem(field, found(value, self._expected(value, options, keys)))
        return LETTERS[place]

    def write(self, letter: str | None, options: Sequence[Any], keys: Sequence[Any], before: Any) -> Any:
        """Write an answer as the row had it ``before``; without a letter, blank."""
        if isinstance(before, list):
            return (
                [] if letter is None else [self.write(letter, options, keys, before[0] if before else None)]
            )
        if letter is None:
            return "" if isinstance(before, str) else None
        if len(letter) != 1 or letter not in LETTERS:
            return letter  # what stands for an abstention
        return self._written(LETTERS.index(letter), options, keys, before)

    @abstractmethod
    def _place(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> int | None: ...

    @abstractmethod
    def _written(self, place: int, options: Sequence[Any], keys: Sequence[Any], before: Any) -> Any: ...

    @abstractmethod
    def _expected(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> str: ...


@dataclass(frozen=True)
class Letter(Notation):
    """``"B"``, or ``"b"`` in a layout that writes small letters (``small``)."""

    small: bool = False

    def _place(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> int | None:
        plain = value.strip().upper() if isinstance(value, str) else ""
        return LETTERS.index(plain) if len(plain) == 1 and plain in LETTERS else None

    def _written(self, place: int, options: Sequence[Any], keys: Sequence[Any], before: Any) -> Any:
        small = before.islower() if isinstance(before, str) and before else self.small
        return LETTERS[place].lower() if small else LETTERS[place]

    def _expected(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> str:
        letters = LETTERS[: len(options)]
        several = isinstance(value, str) and [one for one in value.upper() if one.isalnum()]
        if several and len(several) > 1 and all(one in letters for one in several):
            return _SEVERAL
        expected = f"a letter A–{letters[-1]}"
        if isinstance(value, int | json_text.Number) or (isinstance(value, str) and value.strip().isdigit()):
            return (
                f"{expected}; for a number, say with --map and --answers index-0 or index-1 where it begins"
            )
        return (
            f"{expected}; for the option's text, say --map and --answers text"
            if value in options
            else expected
        )


@dataclass(frozen=True)
class Index(Notation):
    """``2``, ``"2"`` or ``2.0``: the place of the option, counted from ``first``."""

    first: int = 0

    def _place(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> int | None:
        text = value.text if isinstance(value, json_text.Number) else str(value)
        try:
            number = float(text)
        except ValueError:
            return None
        whole = not isinstance(value, bool) and number.is_integer()
        return int(number) - self.first if whole else None

    def _written(self, place: int, options: Sequence[Any], keys: Sequence[Any], before: Any) -> Any:
        number = place + self.first
        if isinstance(before, str):
            # Programs that know missing numbers as floats only write 2.0.
            return f"{number}.0" if before.endswith(".0") else str(number)
        return json_text.Number(f"{number}.0") if isinstance(before, json_text.Number) else number

    def _expected(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> str:
        return f"a number {self.first}–{self.first + len(options) - 1}"


@dataclass(frozen=True)
class Name(Notation):
    """The text of the option, or (``key``) what the row itself calls it: ``"3"`` of ``["1", "2", "3"]``."""

    key: bool = False

    def _place(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> int | None:
        names, wanted = (list(keys), value) if self.key else (list(map(_plain, options)), _plain(value))
        return names.index(wanted) if names.count(wanted) == 1 else None

    def _written(self, place: int, options: Sequence[Any], keys: Sequence[Any], before: Any) -> Any:
        return (keys if self.key else options)[place]

    def _expected(self, value: Any, options: Sequence[Any], keys: Sequence[Any]) -> str:
        keyed = f"one of the keys {json_text.shown(list(keys))}"
        return keyed if self.key else "the text of exactly one option"


def _plain(value: Any) -> Any:
    text = text_of(value)
    return text.strip() if isinstance(text, str) else text


NOTATIONS = {
    notation.name: notation
    for notation in (
        Letter("letter"),
        Letter("small-letter", small=True),
        Index("index-0"),
        Index("index-1", first=1),
        Name("text"),
        Name("key", key=True),
    )
}
