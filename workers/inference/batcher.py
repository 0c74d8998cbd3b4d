"""Gather single items into batches.

    batcher = Batcher(run_batch, size=16, in_flight=4, linger=0.2); answer = await batcher.submit(question)

One dispatcher takes up to `size` waiting items of one group, or fewer once `linger` seconds have passed.
Several batches run concurrently, with at most as many items without a result as fill `in_flight` batches: an
item that ends before the others of its batch makes room for another one. An exclusive batch waits until no
other runs, and runs alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# Is told the result of the item at a place in its batch, before the batch ends.
Ended = Callable[[int, Any], None]


@dataclass(eq=False)
class _Ticket(Generic[Item, Result]):
    item: Item
    group: Hashable
    size: int
    exclusive: bool
    future: "asyncio.Future[Result]" = field(repr=False)
    since: float


class Batcher(Generic[Item, Result]):
    """Batches items for ``run``, which returns one result per item, in order, or raises for all of them.

    It may give results earlier to the `Ended` that it receives; these stay, whatever it returns or raises.

    ``linger`` is in seconds. All methods belong to one event loop.
    """

    def __init__(
        self,
        run: Callable[[list[Item], Ended], Awaitable[Sequence[Result]]],
        *,
        size: int,
        in_flight: int,
        linger: float,
    ) -> None:
        self._run = run
        self._size = size
        self._in_flight = in_flight
        self._linger = linger
        self._waiting: list[_Ticket[Item, Result]] = []
        self._running: dict[asyncio.Task[None], list[_Ticket[Item, Result]]] = {}
        self._changed = asyncio.Event()
        self._dispatcher: asyncio.Task[None] | None = None
        self._stopped = False

    async def submit(
        self, item: Item, group: Hashable = None, size: int | None = None, exclusive: bool = False
    ) -> Result:
        """Submit one item and wait for its result.

        Items of one ``group`` share a batch. ``size`` limits the item's batch. No other batch runs
        concurrently with an ``exclusive`` one.

        Raises:
            CancelledError: the batcher was stopped.
        """
        if self._stopped:
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        size = min(size or self._size, self._size)
        ticket = _Ticket(item, group, size, exclusive, loop.create_future(), loop.time())
        self._waiting.append(ticket)
        if self._dispatcher is None:
            self._dispatcher = loop.create_task(self._dispatch())
        self._changed.set()
        return await ticket.future

    async def stop(self, *, abort: bool) -> None:
        """Accept no more items and cancel waiting ones; cancel running batches with ``abort``, else wait."""
        self._stopped = True
        tasks = list(self._running)
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        if abort:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for ticket in self._waiting:
            ticket.future.cancel()
        self._waiting.clear()

    @property
    def groups(self) -> set[Hashable]:
        """Name the groups of all items without a result; any thread may ask."""
        return {ticket.group for batch in [self._waiting, *self._running.values()] for ticket in list(batch)}

    def abort(self, group: Hashable, reason: str) -> None:
        """Cancel the running batches and the waiting items of a group; the error has the reason."""
        for ticket in self._waiting:
            if ticket.group == group:
                ticket.future.cancel()
        self._waiting = [ticket for ticket in self._waiting if ticket.group != group]
        for task, batch in self._running.items():
            if batch[0].group == group:
                task.cancel(reason)
        self._changed.set()

    async def _dispatch(self) -> None:
        while True:
            await self._until(lambda: bool(self._waiting))
            first = self._waiting[0]
            await self._until(lambda first=first: self._has_room(first))  # type: ignore[misc]
            await self._fill(first)
            if not (batch := self._take(first)):  # they were aborted
                continue
            task = asyncio.create_task(self._settle(batch))
            self._running[task] = batch
            task.add_done_callback(self._finished)
            if first.exclusive:
                await self._until(lambda: not self._running)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _has_room(self, first: _Ticket[Item, Result]) -> bool:
        if first.exclusive:
            return not self._running
        unfinished = sum(not ticket.future.done() for batch in self._running.values() for ticket in batch)
        return unfinished <= (self._in_flight - 1) * first.size

    async def _fill(self, first: _Ticket[Item, Result]) -> None:
        """Wait until the first item's batch is full, or its linger has passed."""
        remaining = first.since + self._linger - asyncio.get_running_loop().time()
        if remaining <= 0:
            return
        try:
            async with asyncio.timeout(remaining):
                await self._until(lambda: len(self._mates(first)) >= first.size)
        except TimeoutError:
            return

    def _mates(self, first: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        alike = (first.group, first.size, first.exclusive)
        return [t for t in self._waiting if (t.group, t.size, t.exclusive) == alike][: first.size]

    def _take(self, first: _Ticket[Item, Result]) -> list[_Ticket[Item, Result]]:
        batch = self._mates(first)
        taken = set(batch)
        self._waiting = [ticket for ticket in self._waiting if ticket not in taken]
        return batch

    async def _settle(self, batch: list[_Ticket[Item, Result]]) -> None:
        def end(at: int, result: Result) -> None:
            if not batch[at].future.done():
                batch[at].future.set_result(result)
                self._changed.set()

        try:
            results = await self._run([ticket.item for ticket in batch], end)
            ended = list(zip(range(len(batch)), results, strict=True))
        except asyncio.CancelledError:
            raise
        # Any error is passed to the waiting tasks, which raise it.
        except BaseException as error:  # noqa: BLE001
            for ticket in batch:
                if not ticket.future.done():
                    ticket.future.set_exception(error)
            return
        for at, result in ended:
            end(at, result)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        batch = self._running.pop(task)
        # Here, since a task that is cancelled before its first step runs none of its code.
        if task.cancelled():
            for ticket in batch:
                ticket.future.cancel()
        self._changed.set()
