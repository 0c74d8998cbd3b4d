"""JSON values that stand in a model's text, whatever is said around them.

    find('好的：{"answer": "B"} 希望有帮助 {笑}', "{")  ->  Embedded(start=3, end=18, value={"answer": "B"})

Each part of a text is parsed about once, and few faults are looked at, so that no text takes longer than in
proportion to its length.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

FAULTS = 200  # brackets that open nothing; each costs a look at all of the text before it


@dataclass(frozen=True)
class Embedded:
    """A value and where it stands in the text."""

    start: int
    end: int
    value: Any


def find(text: str, opening: str) -> Iterator[Embedded]:
    """Find the outermost values that begin with ``opening``: ``{`` for objects, ``[`` for arrays.

    Nothing more is found after `FAULTS` brackets that open none, or one that is nested too deeply.
    """
    # Models break lines inside strings, which only the lenient decoder takes.
    decoder = json.JSONDecoder(strict=False)
    start, faults = text.find(opening), 0
    while start >= 0 and faults < FAULTS:
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # What was parsed before the fault is not parsed again.
            end, faults = max(error.pos, start + 1), faults + 1
        except RecursionError:
            return
        except ValueError:  # a number of thousands of digits
            end, faults = start + 1, faults + 1
        else:
            yield Embedded(start, end, value)
        start = text.find(opening, end)
