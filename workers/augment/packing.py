"""Pack texts into as few calls as a service's limits allow.

    pack(["……" (900), "……" (1500), "……" (400)], Limits(characters=2000))  ->  [[1500, 400], [900]]

A service that takes one text a call gets several as its lines.
"""

import dataclasses
from collections.abc import Sequence

from shared.errors import Unreadable
from shared.providers import Limits
from workers.ports import Needs, Service, Translated, Translator


def pack(texts: Sequence[str], limits: Limits, gap: int = 0) -> list[list[str]]:
    """Pack texts first-fit decreasing, ``gap`` characters between two; one too long goes alone."""
    packs: list[list[str]] = []
    sizes: list[int] = []
    # Full packs are not looked at again; without this, many texts would take their square in time.
    first = 0
    for text in sorted(texts, key=len, reverse=True):
        place = _place(packs, sizes, first, len(text) + gap, limits)
        if place == len(packs):
            packs.append([])
            sizes.append(-gap)
        packs[place].append(text)
        sizes[place] += len(text) + gap
        while first < len(packs) and _full(packs[first], sizes[first], limits):
            first += 1
    return packs


def _place(packs: list[list[str]], sizes: list[int], first: int, size: int, limits: Limits) -> int:
    for place in range(first, len(packs)):
        within = limits.characters is None or sizes[place] + size <= limits.characters
        if within and (limits.texts is None or len(packs[place]) < limits.texts):
            return place
    return len(packs)


def _full(texts: list[str], size: int, limits: Limits) -> bool:
    return len(texts) == limits.texts or (limits.characters is not None and size >= limits.characters)


class Carrier:
    """A translator as lines of text see it: whatever it takes a call, it translates lines, one into one.

    A service that takes one text a call gets several lines as one, unless it is ``prompted``: a chat model
    was given that limit by a person, who does not trust it with more.
    """

    def __init__(self, translator: Translator, *, prompted: bool = False) -> None:
        self._translator = translator
        self._as_lines = translator.service.limits.texts == 1 and not prompted
        self._gap = 1 if self._as_lines else 0

    @property
    def service(self) -> Service:
        """Say what it is; a limit of one text a call does not bind lines."""
        service = self._translator.service
        if not self._as_lines:
            return service
        return dataclasses.replace(service, limits=service.limits.model_copy(update={"texts": None}))

    def pack(self, texts: Sequence[str]) -> list[list[str]]:
        """Pack texts into as few calls as the service's limits allow."""
        return pack(texts, self.service.limits, self._gap)

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Tell what translating some texts may use."""
        return self._translator.estimate(self._sent(texts))

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts, none of which has a line break, in one call; so have the results.

        Raises:
            Unreadable: there is not one result for each text, or one is empty.
            As `Translator.translate` does.
        """
        made = self._translator.translate(self._sent(texts), source, target)
        results = self._received(made.texts, len(texts))
        if len(results) != len(texts):
            raise Unreadable(f"{len(texts)} texts were sent, and {len(results)} came back")
        if not all(results):
            raise Unreadable(f"a translation is empty: that of {texts[results.index('')][:40]!r}")
        return Translated(results, made.usage)

    def _sent(self, texts: Sequence[str]) -> Sequence[str]:
        return ["\n".join(texts)] if self._as_lines else texts

    def _received(self, texts: Sequence[str], count: int) -> list[str]:
        if self._as_lines and count > 1:
            texts = [line for text in texts for line in text.split("\n") if line.strip()]
        return [" ".join(filter(None, map(str.strip, text.split("\n")))) for text in texts]
