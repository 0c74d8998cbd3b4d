"""Count votes and tokens by run during generation.

counter = meter.begin("round1", claim).expect(0, votes=5)
counter.count(0, tokens=16, finished=False)
meter.figures()  ->  [Sampled("round1", votes=0, tokens=16, votes_under_way=5, ...)]
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field

from shared.ledger.sampling_progress import Sampled

WINDOW = 30.0  # seconds that the rate looks back over


@dataclass
class _Question:
    """A question in play: tokens of each vote that was asked for, and which of them are finished."""

    tokens: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)


@dataclass
class _Run:
    """A run's votes and tokens so far, its questions in play, and its recent token counts."""

    votes: int = 0
    tokens: int = 0
    playing: dict[Hashable, _Question] = field(default_factory=dict)
    samples: deque[tuple[float, int]] = field(default_factory=deque)
    reported: Sampled | None = None


class Counter:
    """Counts the tokens of one question's votes from the place ``first`` on; it is a `ports.Progress`."""

    def __init__(self, lock: threading.Lock, run: _Run, question: _Question, first: int = 0) -> None:
        self._lock, self._run, self._question, self._first = lock, run, question, first

    def expect(self, first: int, votes: int) -> "Counter":
        """Give a counter of the votes from a place on, which are now under way."""
        with self._lock:
            self._question.tokens |= dict.fromkeys(range(first, first + votes), 0)
        return Counter(self._lock, self._run, self._question, first)

    def abort_rest(self) -> dict[int, int]:
        """Expect no more of the unfinished votes; give the tokens that they have, by place."""
        with self._lock:
            tokens = self._question.tokens
            rest = tokens.keys() - self._question.finished
            self._question.finished |= rest
            return {vote: tokens[vote] for vote in rest}

    def count(self, vote: int, tokens: int, finished: bool) -> None:
        """Note how many tokens a vote has so far, and whether it is finished."""
        vote += self._first
        with self._lock:
            self._run.tokens += tokens - self._question.tokens[vote]
            self._question.tokens[vote] = tokens
            if finished and vote not in self._question.finished:
                self._question.finished.add(vote)
                self._run.votes += 1


class ThroughputMeter:
    """All counts of one worker; ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def begin(self, run: str, question: Hashable) -> Counter:
        """Begin to count a question of a run."""
        with self._lock:
            counted = self._runs.setdefault(run, _Run())
            if not counted.samples:
                counted.samples.append((self._clock(), counted.tokens))
            playing = counted.playing[question] = _Question()
            return Counter(self._lock, counted, playing)

    def end(self, run: str, questions: Iterable[Hashable]) -> None:
        """Stop counting questions whose round has ended."""
        with self._lock:
            if run in self._runs:
                for question in questions:
                    self._runs[run].playing.pop(question, None)

    def figures(self) -> list[Sampled]:
        """Give the figures of runs that have changed since the last call."""
        with self._lock:
            figures = [(run, self._figures(name, run)) for name, run in self._runs.items()]
            news = [(run, now) for run, now in figures if run.playing or now != run.reported]
            for run, now in news:
                run.reported = now
            return [now for _, now in news]

    def _figures(self, name: str, run: _Run) -> Sampled:
        questions = run.playing.values()
        under_way = [
            tokens
            for question in questions
            for vote, tokens in question.tokens.items()
            if vote not in question.finished
        ]
        return Sampled(
            run=name,
            votes=run.votes,
            tokens=run.tokens,
            votes_in_play=sum(len(question.finished) for question in questions),
            votes_under_way=len(under_way),
            votes_not_begun=under_way.count(0),
            tokens_under_way=sum(under_way),
            tokens_per_second=self._rate(run, reading=0 in under_way and not run.votes),
        )

    def _rate(self, run: _Run, reading: bool) -> float:
        if not run.playing:
            run.samples.clear()
            return 0.0
        now = self._clock()
        if reading:  # the prefill of the first prompts yields few tokens: no basis for a rate
            run.samples.clear()
        run.samples.append((now, run.tokens))
        while len(run.samples) > 2 and run.samples[1][0] <= now - WINDOW:
            run.samples.popleft()
        since, before = run.samples[0]
        return (run.tokens - before) / (now - since) if now > since else 0.0
