"""Admission control: fewer items are in play beside one whose work has died before.

    with admission.entered(losses=2): ...   at most four items are in play for as long as this one is

Should it kill its worker again, fewer others are in play with it, until in the end it is alone: then it is
known to be the cause.
"""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Iterator

MOST = 16  # halved with each death of an item's work: how many may be in play while it is


def _most_beside(losses: int) -> float:
    return max(1, MOST >> losses) if losses else math.inf


class Admission:
    """Lets items in, first come first served, as far as those who are in play allow it."""

    def __init__(self) -> None:
        self._in_play: list[float] = []
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def entered(self, losses: int) -> Iterator[None]:
        """Wait until an item whose work died ``losses`` times may be in play, and keep it there."""
        most = _most_beside(losses)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            # In order, or an item that must be alone would wait for ever.
            self._changed.wait_for(lambda: self._queue[0] is ticket and self._has_room(most))
            self._queue.popleft()
            self._in_play.append(most)
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._in_play.remove(most)
                self._changed.notify_all()

    def _has_room(self, most: float) -> bool:
        return len(self._in_play) < min([most, *self._in_play])
