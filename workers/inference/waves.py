"""Ask for the votes of a round in waves, and stop as soon as no vote to come can change its answer.

    await waves.sample(partial, ask)  ->  [Vote("B"), Vote("B"), Vote("B"), PendingVote(), PendingVote()]

A wave has as few votes as could decide: 3, 1 and 1 of five by majority. Then each of them is needed. If more
are asked for at once, those in flight are aborted when the others have decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from shared import vote_budget, voting
from shared.dataset import LETTERS
from shared.early_stop import PendingVote, StopRule
from shared.ledger import models
from shared.ledger import votes as recorded_votes
from shared.ledger.claims import Claim, RoundRecord
from shared.ledger.models import Model
from shared.prompts import PromptQuestion
from shared.recipes import INPUTS
from shared.training_examples import Text
from shared.vote_budget import State
from shared.voting import SCORED, Answer, Vote
from workers import instrumentation, retries
from workers.inference import judging
from workers.inference.finished_rounds import Plan, SampledRound
from workers.inference.judging import ReadVote
from workers.ports import Completion, Scorer

# Samples the votes of some places, which are successive for each voice.
Ask = Callable[[Sequence[int]], Awaitable[list[Completion]]]


class PartialRound:
    """The votes of a question's round: those that have come, and those to come.

    ``final``: there is no further round, since this is the last one, or since no vote can be accepted.
    """

    def __init__(
        self,
        scorer: Scorer,
        plan: Plan,
        model: Model | None,
        claim: Claim,
        asked: PromptQuestion,
        fold: int,
    ) -> None:
        self._sampling, self._asked, self._scorer = plan.sampling, asked, scorer
        self._fold = fold
        self._rule = models.rule_of(plan.sampling, model)
        # Scores that do not count are given when the round is judged.
        self._model = model if self._rule.use in SCORED else None
        letters = LETTERS[: len(asked.options)]
        self._letter_scores = self._score_letters(letters)
        self.final = claim.attempt >= plan.sampling.max_attempts or not any(
            self._rule.accepts(letter, self._strongest(voice, letter).score)
            for voice in plan.sampling.votes_by_voice
            for letter in letters
        )
        self._earlier = recorded_votes.earlier_votes(claim.job) if self.final else []
        self._stop_rule = StopRule(letters, self._decide, self._strongest)
        counts = plan.sampling.votes_by_voice
        self._voices = [voice for voice, count in counts.items() for _ in range(count)]
        self._votes: list[Vote | PendingVote] = [PendingVote(voice) for voice in self._voices]
        self._completions: dict[int, Completion] = {}

    @property
    def coming(self) -> list[int]:
        """Give the places of the votes to come."""
        return [place for place, vote in enumerate(self._votes) if isinstance(vote, PendingVote)]

    def next_places(self, wave: Mapping[str, int]) -> list[int]:
        """Give the places of the next votes of some voices."""
        coming = self.coming
        return [
            place
            for voice, count in wave.items()
            for place in [place for place in coming if self._voices[place] == voice][:count]
        ]

    def state(self) -> State:
        """Describe the votes that have come, for the vote budget."""
        by_voice = [
            [
                vote
                for of, vote in zip(self._voices, self._votes, strict=True)
                if of == voice and isinstance(vote, Vote)
            ]
            for voice in self._sampling.votes_by_voice
        ]
        return vote_budget.state(by_voice, self._rule, self._sampling.kind_weights is not None)

    def is_fixed(self) -> bool:
        """Tell whether no vote to come can change the answer."""
        return self._stop_rule.is_fixed(self._votes)

    def votes_needed(self) -> int:
        """Count the votes that must come at least before the answer is fixed; 0: it is."""
        return self._stop_rule.votes_needed(self._votes)

    def add(self, places: Sequence[int], completions: Iterable[Completion]) -> None:
        """Read and score the votes of some places."""
        for place in places:  # a place without a vote must not be asked for again
            self._votes[place] = Vote(None)
        drawn = dict(zip(places, completions, strict=False))
        read = [judging.read(vote, self._sampling, self._asked) for vote in drawn.values()]
        for place, vote, score in zip(drawn, read, self._scores(read), strict=True):
            weight = self._sampling.kind_weight(vote.kind, self._fold)
            self._votes[place] = Vote(vote.text.letter, score, weight)
        self._completions |= drawn

    def sampled(self, records: Sequence[RoundRecord]) -> SampledRound:
        """Give the round as far as it was sampled."""
        places = sorted(self._completions)
        known = [vote for place in places if isinstance(vote := self._votes[place], Vote)]
        scores = [vote.score for vote in known] if self._model else None
        votes = [self._completions[place] for place in places]
        return SampledRound(votes, records, places=places, scores=scores, final=self.final)

    def _decide(self, votes: Sequence[Vote]) -> Answer | None:
        answer = voting.decide(votes, self._rule)
        if answer is None and self.final:
            return voting.fall_back([*self._earlier, *votes], self._sampling.fallback)
        return answer

    def _strongest(self, voice: str, letter: str) -> Vote:
        """Give the vote with the highest score and weight that it may have once it is sampled."""
        score = self._letter_scores.get(letter, 1.0) if self._letter_scores else 1.0
        weight = self._sampling.most_weight(voice, self._fold)
        return Vote(letter, score if self._model else None, weight)

    def _scores(self, votes: Sequence[ReadVote]) -> Sequence[float | None]:
        if self._model is None:
            return [None] * len(votes)
        if self._letter_scores:
            return [self._letter_scores.get(vote.text.letter or "", 0.0) for vote in votes]
        return judging.score(self._scorer, self._model, [(self._asked, votes)])[0]

    def _score_letters(self, letters: str) -> dict[str, float]:
        """Score the letters, if the scorer reads nothing else of a vote."""
        kind = INPUTS.get(str(self._model.options.get("input"))) if self._model else None
        if self._model is None or kind is None or not kind.answers:
            return {}
        texts = [Text(text="", letter=letter) for letter in letters]
        (scores,) = self._scorer.score(self._model.name, [(self._asked, texts)])
        return dict(zip(letters, scores, strict=True))


async def sample(partial: PartialRound, ask: Ask, first_wave: int | None, aborts: bool) -> None:
    """Ask for votes until the answer is fixed; ``aborts``: votes in flight can be aborted."""
    wanted = first_wave or 0
    # In a thread: with many votes and options, it takes long enough to stall the engine's loop.
    while fewest := await asyncio.to_thread(partial.votes_needed):
        places = partial.coming[: max(fewest, wanted)]
        if aborts and len(places) > fewest:
            await _until_fixed(partial, ask, places)
        else:
            await add(partial, places, await ask(places))
        wanted = 0


async def _until_fixed(partial: PartialRound, ask: Ask, places: Sequence[int]) -> None:
    """Ask for each vote in a request of its own; abort those in flight when the answer is fixed."""
    asking = {asyncio.ensure_future(ask([place])): place for place in places}
    try:
        while asking and not await asyncio.to_thread(partial.is_fixed):
            done, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for request in done:
                await add(partial, [asking.pop(request)], request.result())
        instrumentation.ABORTED.inc(len(asking))
    finally:
        for request in asking:
            request.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def add(partial: PartialRound, places: Sequence[int], completions: Sequence[Completion]) -> None:
    """Read and score the votes of some places, in a thread."""
    # An outage of the ledger must not lose the sampled votes.
    await retries.until_done_aside(lambda: partial.add(places, completions))
