"""Layouts with one question a row, told by the names of their fields.

Flat("arc", question="question", options=("choices.text",), keys="choices.label", answer="answerKey", ...)
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from producers.layouts.notations import NOTATIONS
from producers.layouts.types import Layout, RowProblem, found, path_value, text_of, with_value
from shared.dataset import LETTERS


@dataclass(frozen=True, kw_only=True)
class Flat(Layout):
    """The fields of a row with one question, as names or paths; see `path_value`.

    ``options`` is one field with a list, or several fields with a text each; ``needs`` are the types of the
    fields by which a row is recognised. ``entry_id`` derives the entry's id from ``id``.
    """

    name: str
    question: str
    options: tuple[str, ...]
    answer: str
    problem: str | None = None
    id: str | None = None
    reasoning: str | None = None
    keys: str | None = None
    notation: str = "letter"
    needs: dict[str, type | tuple[type, ...]] = field(default_factory=dict)
    entry_id: Callable[[Any], Any] = lambda value: value

    def recognises(self, row: Any) -> bool:
        """See `Layout`."""
        if not isinstance(row, dict) or not self.needs:
            return False
        present = all(name in row or "." in name for name in self.needs)
        return present and all(isinstance(path_value(row, name), kind) for name, kind in self.needs.items())

    def entry(self, row: Any) -> dict[str, Any]:
        """See `Layout`."""
        if not isinstance(row, dict):
            raise RowProblem("", found(row, "an object"))
        options = self._options(row)
        given = path_value(row, self.answer)
        answer = self._notation.read(self.answer, given, options, self._keys(row))
        texts = [text_of(option) for option in options]
        asked = {"question": path_value(row, self.question), "options": texts, "answer": answer}
        if self.reasoning is not None:
            asked["reasoning"] = self._value(row, self.reasoning) or None
        problem = self._value(row, self.problem)
        name = self._value(row, self.id)
        entry = {"problem": "" if problem is None else problem, "questions": [asked]}
        return entry if name is None or name == "" else {"id": self.entry_id(name), **entry}

    def fill(self, row: Any, letters: Iterator[str | None]) -> Any:
        """See `Layout`."""
        before = path_value(row, self.answer)
        written = self._notation.write(next(letters), self._options(row), self._keys(row), before)
        return with_value(row, self.answer, written)

    def own_field(self, field: str) -> str:
        """See `Layout`."""
        names = {"problem": self.problem, "id": self.id, "questions[0].question": self.question}
        if field in names:
            return names[field] or field
        for place, name in enumerate(self.options if len(self.options) > 1 else ()):
            if field == f"questions[0].options[{place}]":
                return name
        return field.replace("questions[0].options", self.options[0])

    @functools.cached_property
    def _notation(self) -> Any:
        return NOTATIONS[self.notation]

    def _value(self, row: Any, name: str | None) -> Any:
        return None if name is None else path_value(row, name)

    def _keys(self, row: Any) -> Sequence[Any]:
        keys = self._value(row, self.keys)
        return keys if isinstance(keys, list) else ()

    def _options(self, row: Any) -> list[Any]:
        if len(self.options) > 1:
            return _without_blank_end([path_value(row, name) for name in self.options])
        options = path_value(row, self.options[0])
        if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
            expected = f"a list of 2 to {len(LETTERS)} options: the row is not single-choice"
            if isinstance(options, dict):
                fields = ",".join(f"{self.options[0]}.{name}" for name in options)
                expected = f"a list; name its fields with --map options={fields}"
            raise RowProblem(self.options[0], found(options, expected))
        return options


def _without_blank_end(options: list[Any]) -> list[Any]:
    # Tables have as many columns as their longest question has options.
    while len(options) > 2 and options[-1] in (None, ""):
        options.pop()
    return options
