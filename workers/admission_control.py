"""Admission control: fewer items are in play beside one whose work has died before.

    with admission.entered(losses=2): ...   at most four items are in play for as long as this one is

If it kills its worker again, fewer other items are in play with it. In the end it is alone, and known to be
the cause.
"""

import contextlib
import math
import threading
from collections import deque
from collections.abc import Iterator

MOST = 16  # items in play beside an item that has never died; each death halves the number


def _most_beside(losses: int) -> float:
    return max(1, MOST >> losses) if losses else math.inf


class Admission:
    """Admits items in order of arrival, within the limits of the items in play."""

    def __init__(self) -> None:
        self._in_play: list[float] = []
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def entered(self, losses: int) -> Iterator[None]:
        """Wait until an item whose work died ``losses`` times may be in play; it is, inside the context."""
        most = _most_beside(losses)
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            # In order of arrival, or an item that must be alone might wait forever.
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
