"""Pack texts into as few calls as a service's limits allow.

    pack(["……" (900), "……" (1500), "……" (400)], Limits(characters=2000))  ->  [[1500, 400], [900]]

A service that takes one text a call receives several texts as lines of one.
"""

import dataclasses
from collections.abc import Sequence

from shared.errors import Unreadable
from shared.providers import Limits
from workers.ports import Needs, Service, Translated, Translator


def pack(texts: Sequence[str], limits: Limits, gap: int = 0) -> list[list[str]]:
    """Pack texts first-fit decreasing, ``gap`` characters apart; a text that is too long is packed alone."""
    packs: list[list[str]] = []
    sizes: list[int] = []
    # Full packs are skipped from then on, which avoids quadratic time on many texts.
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
    """A translator of single lines, independent of how many texts a call takes.

    A service that takes one text a call receives several lines as one text, unless it is ``prompted``: a chat
    model has such a limit only if the user set it.
    """

    def __init__(self, translator: Translator, *, prompted: bool = False) -> None:
        self._translator = translator
        self._as_lines = translator.service.limits.texts == 1 and not prompted
        self._gap = 1 if self._as_lines else 0

    @property
    def service(self) -> Service:
        """Give the service; if lines are joined, without its limit of one text a call."""
        service = self._translator.service
        if not self._as_lines:
            return service
        return dataclasses.replace(service, limits=service.limits.model_copy(update={"texts": None}))

    def pack(self, texts: Sequence[str]) -> list[list[str]]:
        """Pack texts into as few calls as the service's limits allow."""
        return pack(texts, self.service.limits, self._gap)

    def estimate(self, texts: Sequence[str]) -> Needs:
        """Estimate what translating some texts uses."""
        return self._translator.estimate(self._sent(texts))

    def translate(self, texts: Sequence[str], source: str, target: str) -> Translated:
        """Translate some texts in one call; neither texts nor results have line breaks.

        Raises:
            Unreadable: the number of results differs, or one is empty.
            As `Translator.translate` does.
        """
        translated = self._translator.translate(self._sent(texts), source, target)
        results = self._received(translated.texts, len(texts))
        if len(results) != len(texts):
            raise Unreadable(f"{len(texts)} texts were sent, and {len(results)} came back")
        if not all(results):
            raise Unreadable(f"a translation is empty: that of {texts[results.index('')][:40]!r}")
        return Translated(results, translated.usage)

    def _sent(self, texts: Sequence[str]) -> Sequence[str]:
        return ["\n".join(texts)] if self._as_lines else texts

    def _received(self, texts: Sequence[str], count: int) -> list[str]:
        if self._as_lines and count > 1:
            texts = [line for text in texts for line in text.split("\n") if line.strip()]
        return [" ".join(filter(None, map(str.strip, text.split("\n")))) for text in texts]
