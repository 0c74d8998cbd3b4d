"""Turn what a puzzle determines into questions: a value, yes or no, a set, the size of a set.

    members(rng, zh, Wording("从甲镇出发能到达哪些地方？", ...), found, slipped, towns, solved)

It drops slips that end at the right answer after all; it does not know what the steps say.
"""

from collections.abc import Iterable, Mapping, Sequence
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

    def conclude(self, language: Language, members: Sequence[str]) -> str:
        """State the members, without a full stop."""
        return self.conclusion.format(members=language.listed(members), n=Count(len(members)), **self.names)


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


def members(
    rng: Random,
    language: Language,
    wording: Wording,
    right: Finding,
    slipped: Sequence[Finding],
    universe: Sequence[str],
    solved: Sequence[str],
) -> Query | None:
    """Ask about a set in one of three ways: which, how many, or whether one belongs."""
    slipped = [slip for slip in slipped if slip.members and slip.members != tuple(solved)]
    if not slipped or not solved:
        return None
    ask = rng.choice((_which, _which, _count, _whether))
    if ask is not _whether:
        slipped = _one_sided(rng, slipped, len(solved))
    return ask(rng, language, wording, right, slipped, universe, solved)


def _one_sided(rng: Random, slipped: Sequence[Finding], size: int) -> Sequence[Finding]:
    """Keep the slips that find more, or those that find fewer, so that neither makes wrong texts longer."""
    more = rng.random() < 0.5
    return [slip for slip in slipped if len(slip.members) == size or (len(slip.members) > size) == more]


def _which(
    rng: Random,
    language: Language,
    wording: Wording,
    right: Finding,
    slipped: Sequence[Finding],
    universe: Sequence[str],
    solved: Sequence[str],
) -> Query | None:
    def end(finding: Finding) -> Chain:
        conclusion = wording.conclude(language, finding.members)
        return Chain((*finding.steps, conclusion + language.stop), language.listed(finding.members))

    toggled = [[one for one in universe if (one in solved) != (one == other)] for other in universe]
    spare = [language.listed(some) for some in toggled if some]
    rng.shuffle(spare)
    ask = wording.which.format(**wording.names)
    return value(ask, end(right), [end(slip) for slip in slipped], spare, language.listed(solved))


def _count(
    rng: Random,
    language: Language,
    wording: Wording,
    right: Finding,
    slipped: Sequence[Finding],
    universe: Sequence[str],
    solved: Sequence[str],
) -> Query | None:
    def end(finding: Finding) -> Chain:
        size = len(finding.members)
        conclusion = wording.conclude(language, finding.members)
        return Chain((*finding.steps, language.in_all.format(conclusion=conclusion, n=size)), str(size))

    size = len(solved)
    spare = [one for one in near(rng, size) if int(one) <= len(universe)]
    ask = wording.count.format(**wording.names)
    return value(ask, end(right), [end(slip) for slip in slipped], spare, str(size))


def _whether(
    rng: Random,
    language: Language,
    wording: Wording,
    right: Finding,
    slipped: Sequence[Finding],
    universe: Sequence[str],
    solved: Sequence[str],
) -> Query | None:
    moved = [one for one in universe if any((one in slip.members) != (one in solved) for slip in slipped)]
    lost, gained = [one for one in moved if one in solved], [one for one in moved if one not in solved]
    # Without both to choose from, one of the two answers would be right more often.
    if not lost or not gained:
        return None
    true = rng.random() < 0.5
    target = rng.choice(lost if true else gained)

    def end(finding: Finding) -> Chain:
        inside = target in finding.members
        template = language.includes if inside else language.excludes
        last = template.format(conclusion=wording.conclude(language, finding.members), member=target)
        return Chain((*finding.steps, last), language.yes if inside else language.no)

    ask = wording.whether.format(member=target, **wording.names)
    options, verdict = (language.yes, language.no), language.yes if true else language.no
    return value(ask, end(right), [end(slip) for slip in slipped], options, verdict)
