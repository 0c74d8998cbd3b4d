"""Single questions in, batches out: what shares a batch, when it goes, and who hears of its end."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from workers.inference.batcher import Batcher, Ended

LONG = 60.0  # seconds of linger that no test waits for


class Work:
    """A `run` that notes its batches, and holds each back until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.ends: list[Ended] = []
        self.running = 0
        self.most_running = 0
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, items: list[str], ended: Ended) -> Sequence[str]:
        self.batches.append(items)
        self.ends.append(ended)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.go.wait()
        finally:
            self.running -= 1
        if "bad" in items:
            raise ValueError("bad batch")
        return [item.upper() for item in items]


def batcher(work: Work, size: int = 4, in_flight: int = 2, linger: float = 0.01) -> Batcher[str, str]:
    return Batcher(work, size=size, in_flight=in_flight, linger=linger)


def play(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await work

    asyncio.run(limited())


async def settled(turns: int = 50) -> None:
    """Let everything that can go on without waiting for time go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


def test_a_full_batch_goes_at_once_and_each_gets_its_own_result() -> None:
    async def scene() -> None:
        work = Work()
        single = batcher(work, linger=LONG)
        assert await asyncio.gather(*map(single.submit, "abcd")) == ["A", "B", "C", "D"]
        assert work.batches == [["a", "b", "c", "d"]]

    play(scene())


def test_what_has_come_goes_when_the_linger_is_over() -> None:
    async def scene() -> None:
        work = Work()
        single = batcher(work, linger=0.05)
        begun = asyncio.get_running_loop().time()
        assert await asyncio.gather(*map(single.submit, "ab")) == ["A", "B"]
        assert asyncio.get_running_loop().time() - begun >= 0.04
        assert work.batches == [["a", "b"]]

    play(scene())


def test_more_than_a_batch_is_split_in_order_of_arrival() -> None:
    async def scene() -> None:
        work = Work()
        await asyncio.gather(*map(batcher(work).submit, "abcdefghi"))
        assert work.batches == [list("abcd"), list("efgh"), list("i")]

    play(scene())


def test_two_groups_never_share_a_batch() -> None:
    async def scene() -> None:
        work = Work()
        single = batcher(work)
        await asyncio.gather(*(single.submit(item, group=item in "ac") for item in "abcd"))
        assert work.batches == [["a", "c"], ["b", "d"]]

    play(scene())


def test_an_items_own_size_caps_its_batch_and_no_larger_one_takes_it_along() -> None:
    async def scene() -> None:
        work = Work()
        single = batcher(work)
        await asyncio.gather(*(single.submit(item, size=2 if item in "acef" else 9) for item in "abcdef"))
        assert work.batches == [["a", "c"], ["b", "d"], ["e", "f"]]

    play(scene())


def test_no_more_batches_run_at_once_than_may() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=1, in_flight=2)
        waiting = asyncio.gather(*map(single.submit, "abcde"))
        await settled()
        assert work.batches == [["a"], ["b"]]
        work.go.set()
        await waiting
        assert (len(work.batches), work.most_running) == (5, 2)

    play(scene())


def test_a_batch_that_waits_for_room_goes_on_filling_up() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=3, in_flight=1, linger=0.001)
        first = asyncio.create_task(single.submit("a"))
        await asyncio.sleep(0.02)
        early = asyncio.create_task(single.submit("b"))
        await asyncio.sleep(0.02)
        late = asyncio.create_task(single.submit("c"))
        await settled()
        work.go.set()
        await asyncio.gather(first, early, late)
        assert work.batches == [["a"], ["b", "c"]]

    play(scene())


def test_an_item_that_ends_before_its_batch_has_its_result_and_makes_room() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=2, in_flight=2)
        waiting = [asyncio.create_task(single.submit(item)) for item in "abcdef"]
        await settled()
        assert work.batches == [["a", "b"], ["c", "d"]]
        work.ends[0](0, "early a")
        await settled()
        assert waiting[0].result() == "early a"
        assert len(work.batches) == 2
        work.ends[1](1, "early d")
        await settled()
        assert work.batches[2:] == [["e", "f"]]
        work.go.set()
        assert await asyncio.gather(*waiting) == ["early a", "B", "C", "early d", "E", "F"]

    play(scene())


def test_an_early_result_stays_when_its_batch_fails() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=2)
        waiting = asyncio.gather(*map(single.submit, ["a", "bad"]), return_exceptions=True)
        await settled()
        work.ends[0](0, "early a")
        work.go.set()
        early, failed = await waiting
        assert (early, str(failed)) == ("early a", "bad batch")

    play(scene())


def test_what_must_go_alone_runs_with_nothing_beside_it() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=2, in_flight=3)
        before = asyncio.gather(*map(single.submit, "ab"))
        await settled()
        alone = asyncio.create_task(single.submit("x", exclusive=True))
        await settled()
        after = asyncio.gather(*map(single.submit, "cd"))
        await asyncio.sleep(0.03)
        assert work.batches == [["a", "b"]]
        work.go.set()
        await before
        work.go.clear()
        await asyncio.sleep(0.03)
        assert work.batches == [["a", "b"], ["x"]]
        work.go.set()
        await asyncio.gather(alone, after)
        assert work.batches == [["a", "b"], ["x"], ["c", "d"]]
        assert work.most_running == 1

    play(scene())


def test_two_that_must_go_alone_do_not_go_together() -> None:
    async def scene() -> None:
        work = Work()
        single = batcher(work)
        await asyncio.gather(*(single.submit(item, size=1, exclusive=True) for item in "xy"))
        assert (work.batches, work.most_running) == ([["x"], ["y"]], 1)

    play(scene())


def test_an_error_reaches_all_of_its_batch_and_none_of_the_next() -> None:
    async def scene() -> None:
        single = batcher(Work(), size=2)
        ends = await asyncio.gather(*map(single.submit, ["a", "bad", "c", "d"]), return_exceptions=True)
        assert [str(end) for end in ends] == ["bad batch", "bad batch", "C", "D"]

    play(scene())


def test_a_result_too_few_is_an_error_for_the_batch_not_a_wait_for_ever() -> None:
    async def scene() -> None:
        async def forgetful(items: list[str], _: Ended) -> Sequence[str]:
            return items[1:]

        single: Batcher[str, str] = Batcher(forgetful, size=2, in_flight=1, linger=0.01)
        ends = await asyncio.gather(*map(single.submit, "ab"), return_exceptions=True)
        assert [type(end) for end in ends] == [ValueError, ValueError]

    play(scene())


def test_one_who_stops_waiting_does_not_disturb_the_others() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=2)
        impatient, patient = (asyncio.create_task(single.submit(item)) for item in "ab")
        await settled()
        impatient.cancel()
        await settled()
        work.go.set()
        assert await patient == "B"

    play(scene())


@pytest.mark.parametrize("abort", [True, False])
def test_a_stop_cancels_what_waits_and_waits_for_what_runs_unless_it_aborts(abort: bool) -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=1, in_flight=1)
        running, waiting = (asyncio.create_task(single.submit(item)) for item in "ab")
        await settled()
        stopping = asyncio.create_task(single.stop(abort=abort))
        await settled()
        assert stopping.done() == abort
        work.go.set()
        await stopping
        ends = await asyncio.gather(running, waiting, return_exceptions=True)
        assert isinstance(ends[1], asyncio.CancelledError)
        assert isinstance(ends[0], asyncio.CancelledError) if abort else ends[0] == "A"
        assert work.batches == [["a"]]

    play(scene())


def test_a_stopped_batcher_takes_nothing() -> None:
    async def scene() -> None:
        single = batcher(Work())
        await single.stop(abort=False)
        with pytest.raises(asyncio.CancelledError):
            await single.submit("a")

    play(scene())


def test_a_batch_that_is_aborted_before_it_begins_leaves_nobody_waiting() -> None:
    async def scene() -> None:
        work = Work(held=True)
        single = batcher(work, size=1, linger=0.0)
        waiting = asyncio.create_task(single.submit("a"))
        # The dispatcher has made the batch's task, which has not taken its first step.
        while not single._running:
            await asyncio.sleep(0)
        await single.stop(abort=True)
        assert work.batches == []
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)

    play(scene())
