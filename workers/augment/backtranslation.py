"""The strategy `back-translation`: reword an entry by way of another language.

    zh "甲比乙高。"  ->  ja "甲は乙より背が高い。"  ->  zh "甲的个子比乙高。"

Problem, questions, options and reasonings go there and back; the line that names the answer stays as it is.
What comes back counts only if it passes the checks. `translation_memory` buys the translations.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from shared import answers, prompts, segments
from shared.dataset import Entry, Question, WrongReasoning
from shared.errors import Refused
from shared.ledger import cache
from shared.ledger.claims import Claim
from shared.options import Augmentation
from shared.segments import Segment
from workers.augment import checks, entry_builder
from workers.augment.checks import Bounds
from workers.augment.entry_builder import Augmented, Dropped
from workers.augment.packing import Carrier
from workers.augment.services import Services
from workers.augment.translation_memory import Memory, PendingText
from workers.ports import Translator

UNCHANGED = "nothing in it has changed"
SHOWN = 4  # reasons for which a text did not pass; the first says most

Said = Mapping[str, str | Refused]
Anew = Callable[[str], str]


def make(services: Services, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
    """Make the new entry of an item; raises as `BackTranslation.rewrite`."""
    return BackTranslation(services.memory, services.translator).rewrite(claim.job.run, entry, options)


class BackTranslation:
    """Says entries anew; ``translator`` gives the client of a provider and model."""

    def __init__(self, memory: Memory, translator: Callable[[str, str], Translator]) -> None:
        self._memory = memory
        self._translator = translator

    def rewrite(self, run: str, entry: Entry, options: Augmentation) -> Augmented:
        """Say an entry anew.

        Raises:
            Refused: nothing of it came back as it should, for the reasons given.
            Held, OverBudget, Interrupted, Unavailable: as `Memory.translate`.
        """
        there, back = self._ways(run, options)
        said = self._there_and_back(there, back, list(segments.texts(entry)))
        return _checked(entry, options, _heeding_refusals(said))

    def _ways(self, run: str, options: Augmentation) -> tuple[PendingText, PendingText]:
        provider, model = options.provider, options.model
        if not (options.language and options.pivot and provider and model):
            raise Refused("the run does not say what is translated by whom: enqueue it again")
        carrier = Carrier(self._translator(provider, model), prompted=options.prompt is not None)
        there, back = cache.routes(options)
        return PendingText(run, carrier, there), PendingText(run, carrier, back)

    def _there_and_back(self, there: PendingText, back: PendingText, texts: Sequence[str]) -> Said:
        longest = there.carrier.service.limits.characters
        whole = {text: segments.split(text, there.route.source, longest) for text in texts}
        pivots = self._memory.translate(there, _wordings(whole))
        # A text may have grown on its way, beyond what one call takes.
        cut = {pivot: segments.cut(pivot, longest) for pivot in pivots.values() if isinstance(pivot, str)}
        returned = _join_all(cut, self._memory.translate(back, _wordings(cut)))
        said = {
            text: pivot if isinstance(pivot, Refused) else returned[pivot] for text, pivot in pivots.items()
        }
        return _join_all(whole, said)


def _wordings(cut: Mapping[str, Sequence[Segment]]) -> Iterator[str]:
    return (segment.text for parts in cut.values() for segment in parts if segment.text)


def _join_all(cut: Mapping[str, Sequence[Segment]], said: Said) -> Said:
    return {text: _join(parts, said) for text, parts in cut.items()}


def _join(parts: Sequence[Segment], said: Said) -> str | Refused:
    given: dict[str, str] = {}
    for part in parts:
        anew = said[part.text] if part.text else ""
        if isinstance(anew, Refused):
            return anew
        given[part.text] = anew
    return segments.join(parts, given)


def _heeding_refusals(said: Said) -> Anew:
    def anew(text: str) -> str:
        given = said[text]
        if isinstance(given, Refused):
            raise Refused(f"the service refused a text of it: {given}")
        return given

    return anew


# An entry's texts


def _question_anew(old: Question, anew: Anew) -> Question:
    count = len(old.options)
    wrong = [
        WrongReasoning(answer=wrong.answer, reasoning=_reasoning_anew(wrong.reasoning, count, anew))
        for wrong in old.wrong
    ]
    return Question(
        question=anew(old.question),
        options=[anew(option) for option in old.options],
        answer=old.answer,
        reasoning=None if old.reasoning is None else _reasoning_anew(old.reasoning, count, anew),
        wrong=wrong,
    )


def _reasoning_anew(reasoning: str, options: int, anew: Anew) -> str:
    body = prompts.without_closing(reasoning)
    closing = reasoning.strip()[len(body) :]
    letter = answers.extract(closing, options)
    # What follows the letter ("B. 否") is an option in its old words, so it does not come along.
    return anew(body) + (closing if letter is None else f"\n答案是：{letter}")


# What came back


def _checked(entry: Entry, options: Augmentation, anew: Anew) -> Augmented:
    bounds = Bounds(options.language or "", options.shortest or 0.0, options.longest or float("inf"))
    problem = anew(entry.problem)
    if wrong := checks.problem(entry.problem, problem, bounds):
        raise Refused(f"the problem: {_told(wrong)}")
    kept: list[Question] = []
    dropped: list[Dropped] = []
    for number, old in enumerate(entry.questions, start=1):
        try:
            kept.append(_question_checked(old, anew, bounds, problem != entry.problem))
        except Refused as error:
            dropped.append(Dropped(number, str(error)))
    if not kept:
        raise Refused("no question passed: " + "; ".join(f"{one.question}: {one.reason}" for one in dropped))
    line = f"{len(kept)} of {len(entry.questions)} questions passed"
    return Augmented(entry_builder.new_entry(entry, options, problem, kept), dropped, line)


def _question_checked(old: Question, anew: Anew, bounds: Bounds, changed: bool) -> Question:
    new = _question_anew(old, anew)
    if wrong := checks.question(old, new, bounds):
        raise Refused(_told(wrong))
    if not changed and all(anew(text) == text for text in segments.question_texts(old)):
        raise Refused(UNCHANGED)
    return new


def _told(reasons: Sequence[str]) -> str:
    more = len(reasons) - SHOWN
    return "; ".join(reasons[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
