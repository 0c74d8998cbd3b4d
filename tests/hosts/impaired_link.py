"""A cable whose packets pass through this process, which delays and drops some: for kernels without netem.

link = ImpairedLink("p-w2", "h-w2"); link.start(); link.loss, link.delay = 0.1, 0.2
"""

import contextlib
import fcntl
import heapq
import itertools
import os
import random
import select
import struct
import threading
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
LONGEST = 65_536  # bytes of a packet


def _tap(name: str) -> int:
    """Open one end: a network device whose packets are read and written here."""
    opened = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    return opened


class ImpairedLink(threading.Thread):
    """Passes packets between two devices; ``loss`` is a share, ``delay`` in seconds, each way."""

    def __init__(self, one: str, other: str, seed: int = 1) -> None:
        super().__init__(name=f"link {one}", daemon=True)
        self.loss, self.delay = 0.0, 0.0
        self._chance = random.Random(seed)
        self._ends = (_tap(one), _tap(other))
        self._ended = threading.Event()

    def stop(self) -> None:
        """Close both ends."""
        self._ended.set()
        self.join()
        for end in self._ends:
            os.close(end)

    def run(self) -> None:
        """Pass packets until stopped, in their order."""
        one, other = self._ends
        waiting: list[tuple[float, int, int, bytes]] = []
        order = itertools.count()
        while not self._ended.is_set():
            pause = max(0.0, min(0.2, waiting[0][0] - time.monotonic())) if waiting else 0.2
            for end in select.select(self._ends, [], [], pause)[0]:
                # A device that is down gives an error; its packets are lost, as on a real cable.
                with contextlib.suppress(OSError):
                    packet = os.read(end, LONGEST)
                    if self._chance.random() >= self.loss:
                        target = other if end == one else one
                        heapq.heappush(waiting, (time.monotonic() + self.delay, next(order), target, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):
                    os.write(target, packet)
