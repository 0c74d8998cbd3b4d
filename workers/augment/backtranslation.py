"""The strategy `back-translation`: reword an entry by translating it to another language and back.

    zh "甲比乙高。"  ->  ja "甲は乙より背が高い。"  ->  zh "甲的个子比乙高。"

Problem, questions, options and reasonings are translated; the line that names the answer stays. A new wording
is kept only if it passes the checks. `translation_memory` gets the translations.
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
SHOWN = 4  # reasons shown for a text that failed the checks

Translations = Mapping[str, str | Refused]
Anew = Callable[[str], str]


def make(services: Services, claim: Claim, entry: Entry, options: Augmentation) -> Augmented:
    """Make the new entry of an item; raises as `BackTranslation.rewrite`."""
    return BackTranslation(services.memory, services.translator).rewrite(claim.job.run, entry, options)


class BackTranslation:
    """Rewords entries; ``translator`` gives the client of a provider and model."""

    def __init__(self, memory: Memory, translator: Callable[[str, str], Translator]) -> None:
        self._memory = memory
        self._translator = translator

    def rewrite(self, run: str, entry: Entry, options: Augmentation) -> Augmented:
        """Reword an entry.

        Raises:
            Refused: no question passed the checks; the message has the reasons.
            Held, OverBudget, Interrupted, Unavailable: as `Memory.translate`.
        """
        there, back = self._ways(run, options)
        translated = self._there_and_back(there, back, list(segments.texts(entry)))
        return _checked(entry, options, _lookup(translated))

    def _ways(self, run: str, options: Augmentation) -> tuple[PendingText, PendingText]:
        provider, model = options.provider, options.model
        if not (options.language and options.pivot and provider and model):
            raise Refused("the run does not say what is translated by whom: enqueue it again")
        carrier = Carrier(self._translator(provider, model), prompted=options.prompt is not None)
        there, back = cache.routes(options)
        return PendingText(run, carrier, there), PendingText(run, carrier, back)

    def _there_and_back(self, there: PendingText, back: PendingText, texts: Sequence[str]) -> Translations:
        longest = there.carrier.service.limits.characters
        whole = {text: segments.split(text, there.route.source, longest) for text in texts}
        pivots = self._memory.translate(there, _wordings(whole))
        # A translation may be longer than the original, beyond the limit of a call.
        cut = {pivot: segments.cut(pivot, longest) for pivot in pivots.values() if isinstance(pivot, str)}
        returned = _join_all(cut, self._memory.translate(back, _wordings(cut)))
        translated = {
            text: pivot if isinstance(pivot, Refused) else returned[pivot] for text, pivot in pivots.items()
        }
        return _join_all(whole, translated)


def _wordings(cut: Mapping[str, Sequence[Segment]]) -> Iterator[str]:
    return (segment.text for parts in cut.values() for segment in parts if segment.text)


def _join_all(cut: Mapping[str, Sequence[Segment]], translated: Translations) -> Translations:
    return {text: _join(parts, translated) for text, parts in cut.items()}


def _join(parts: Sequence[Segment], translated: Translations) -> str | Refused:
    new_texts: dict[str, str] = {}
    for part in parts:
        anew = translated[part.text] if part.text else ""
        if isinstance(anew, Refused):
            return anew
        new_texts[part.text] = anew
    return segments.join(parts, new_texts)


def _lookup(translated: Translations) -> Anew:
    def anew(text: str) -> str:
        result = translated[text]
        if isinstance(result, Refused):
            raise Refused(f"the service refused a text of it: {result}")
        return result

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
    # The text after the letter ("B. 否") repeats an option in its old wording, so it is dropped.
    return anew(body) + (closing if letter is None else f"\n答案是：{letter}")


# Checks of the translations


def _checked(entry: Entry, options: Augmentation, anew: Anew) -> Augmented:
    bounds = Bounds(options.language or "", options.shortest or 0.0, options.longest or float("inf"))
    problem = anew(entry.problem)
    if wrong := checks.problem(entry.problem, problem, bounds):
        raise Refused(f"the problem: {_summary(wrong)}")
    questions: list[Question] = []
    dropped: list[Dropped] = []
    for number, old in enumerate(entry.questions, start=1):
        try:
            questions.append(_question_checked(old, anew, bounds, problem != entry.problem))
        except Refused as error:
            dropped.append(Dropped(number, str(error)))
    if not questions:
        reasons = "; ".join(f"{question.question}: {question.reason}" for question in dropped)
        raise Refused(f"no question passed: {reasons}")
    line = f"{len(questions)} of {len(entry.questions)} questions passed"
    return Augmented(entry_builder.new_entry(entry, options, problem, questions), dropped, line)


def _question_checked(old: Question, anew: Anew, bounds: Bounds, changed: bool) -> Question:
    new = _question_anew(old, anew)
    if wrong := checks.question(old, new, bounds):
        raise Refused(_summary(wrong))
    if not changed and all(anew(text) == text for text in segments.question_texts(old)):
        raise Refused(UNCHANGED)
    return new


def _summary(reasons: Sequence[str]) -> str:
    more = len(reasons) - SHOWN
    return "; ".join(reasons[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
