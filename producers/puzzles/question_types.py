"""Turn what a puzzle determines into questions: a value, yes or no, a set, the size of a set.

    SetQuestions(zh, Wording("从甲镇出发能到达哪些地方？", ...), found, slipped, towns, solved).draw(rng)

It drops slips that end at the right answer after all; it does not know what the steps say.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from producers.puzzles.languages import Count, Language
from producers.puzzles.types import Chain, Query


@dataclass(frozen=True)
class Finding:
    """Steps of reasoning and the members of the set they find, in the universe's order."""

    steps: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True)
class Wording:
    """How a set is asked about, as templates.

    ``{member}`` is the one in `whether`; in `conclusion`, ``{members}`` is the set and ``{n}`` its size.
    """

    which: str
    count: str
    whether: str
    conclusion: str
    names: Mapping[str, str] = field(default_factory=dict)

    def about(self, **names: str) -> "Wording":
        """Return the same templates with the names that stand in them."""
        return replace(self, names=names)


def value(ask: str, right: Chain, slips: Iterable[Chain], spare: Iterable[str], answer: str) -> Query | None:
    """Ask for a value; None when no slip leads elsewhere."""
    wrong = tuple(slip for slip in slips if slip.result != answer)
    others = tuple(option for option in spare if option != answer)
    return Query(ask, right, wrong, others, lambda option: option == answer) if wrong else None


def claim(
    rng: Random,
    language: Language,
    ask: str,
    names: Mapping[str, str],
    right: Chain,
    slips: Sequence[Chain],
    answer: str,
) -> Query | None:
    """Ask whether the value is the one ``{claimed}``: half the claims true, half a slip's value."""
    wrong = [slip.result for slip in slips if slip.result != answer]
    if not wrong:
        return None
    claimed = answer if rng.random() < 0.5 else rng.choice(wrong)

    def judge(chain: Chain) -> Chain:
        same = chain.result == claimed
        last = (language.same if same else language.different).format(claimed=claimed)
        return Chain((*chain.steps, last), language.yes if same else language.no)

    verdict = language.yes if claimed == answer else language.no
    options = (language.yes, language.no)
    asked = ask.format(claimed=claimed, **names)
    return value(asked, judge(right), [judge(slip) for slip in slips], options, verdict)


def near(rng: Random, number: int, step: int = 1) -> list[str]:
    """Return a few other numbers close by, none negative, in random order."""
    close = [number + step * away for away in (-3, -2, -1, 1, 2, 3) if number + step * away >= 0]
    rng.shuffle(close)
    return [str(one) for one in close]


def needed(after: Sequence[Sequence[int]], target: int) -> list[int]:
    """Give a place and all that it comes ``after``, directly or not, in order."""
    places = {target}
    for place in range(target, -1, -1):
        if place in places:
            places.update(after[place])
    return sorted(places)


@dataclass(frozen=True)
class SetQuestions:
    """What may be asked about a set: its wording, what the traces find, who may be and who is in it."""

    language: Language
    wording: Wording
    right: Finding
    slipped: Sequence[Finding]
    universe: Sequence[str]
    solved: Sequence[str]

    def draw(self, rng: Random) -> Query | None:
        """Ask in one of three ways: which, how many, or whether one belongs."""
        slipped = [slip for slip in self.slipped if slip.members and slip.members != tuple(self.solved)]
        if not slipped or not self.solved:
            return None
        cls = type(self)
        ask = rng.choice((cls._which, cls._which, cls._count, cls._whether))
        if ask is not cls._whether:
            slipped = self._one_sided(rng, slipped)
        return ask(replace(self, slipped=slipped), rng)

    def _one_sided(self, rng: Random, slipped: Sequence[Finding]) -> list[Finding]:
        """Keep the slips that find more, or those that find fewer: wrong texts must not be longer."""
        more, size = rng.random() < 0.5, len(self.solved)
        return [slip for slip in slipped if len(slip.members) == size or (len(slip.members) > size) == more]

    def _which(self, rng: Random) -> Query | None:
        listed, solved = self.language.listed, self.solved

        def end(finding: Finding) -> Chain:
            last = self._concluded(finding) + self.language.stop
            return Chain((*finding.steps, last), listed(finding.members))

        universe = self.universe
        toggled = [[one for one in universe if (one in solved) != (one == other)] for other in universe]
        spare = [listed(some) for some in toggled if some]
        rng.shuffle(spare)
        return self._value(self.wording.which, end, spare, listed(solved))

    def _count(self, rng: Random) -> Query | None:
        def end(finding: Finding) -> Chain:
            size = len(finding.members)
            last = self.language.in_all.format(conclusion=self._concluded(finding), n=size)
            return Chain((*finding.steps, last), str(size))

        spare = [one for one in near(rng, len(self.solved)) if int(one) <= len(self.universe)]
        return self._value(self.wording.count, end, spare, str(len(self.solved)))

    def _whether(self, rng: Random) -> Query | None:
        language, solved = self.language, self.solved
        found = [slip.members for slip in self.slipped]
        moved = [one for one in self.universe if any((one in some) != (one in solved) for some in found)]
        lost, gained = [one for one in moved if one in solved], [one for one in moved if one not in solved]
        # Without both to choose from, one of the two answers would be right more often.
        if not lost or not gained:
            return None
        true = rng.random() < 0.5
        target = rng.choice(lost if true else gained)

        def end(finding: Finding) -> Chain:
            inside = target in finding.members
            template = language.includes if inside else language.excludes
            last = template.format(conclusion=self._concluded(finding), member=target)
            return Chain((*finding.steps, last), language.yes if inside else language.no)

        verdict = language.yes if true else language.no
        return self._value(self.wording.whether, end, (language.yes, language.no), verdict, member=target)

    def _value(
        self, ask: str, end: Callable[[Finding], Chain], spare: Sequence[str], answer: str, **names: str
    ) -> Query | None:
        asked = ask.format(**names, **self.wording.names)
        return value(asked, end(self.right), map(end, self.slipped), spare, answer)

    def _concluded(self, finding: Finding) -> str:
        """State the members, without a full stop."""
        members, n = self.language.listed(finding.members), Count(len(finding.members))
        return self.wording.conclusion.format(members=members, n=n, **self.wording.names)
