"""One test over every provider: whatever its wire, its answers and failures mean the same to the queues."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from shared.errors import (
    Barred,
    Exhausted,
    NoReply,
    Refused,
    Throttled,
    Unavailable,
    Unreadable,
    VotequeueError,
)
from tests.servers import Harness, openai, qianfan, tencent
from workers.ports import Reply, Translated

PROVIDERS = {
    "chat": openai,
    "chat translation": openai,
    "qianfan AK/SK": qianfan,
    "qianfan access key": qianfan,
    "qianfan v2": qianfan,
    "tencent TextTranslateBatch": tencent,
    "tencent hunyuan-translation": tencent,
}
MEANINGS: dict[str, tuple[type[VotequeueError], ...]] = {
    "throttled": (Throttled,),
    "throttled with delay": (Throttled,),
    "credentials": (Barred,),
    "server error": (Unavailable,),
    "timeout": (NoReply,),
    "garbled": (Unreadable,),
    "exhausted": (Exhausted, Barred),
    "refused": (Refused,),
}


@pytest.fixture(params=PROVIDERS)
def harness(request: pytest.FixtureRequest, home: Path) -> Iterator[Harness]:
    with PROVIDERS[request.param].harnesses() as offered:
        yield next(one for one in offered if one.name == request.param)


def failure(harness: Harness) -> VotequeueError:
    with pytest.raises(VotequeueError) as caught:
        harness.call()
    return caught.value


def all_that_can_be_printed(error: BaseException) -> str:
    """Give whatever a log, a ledger row or a crash report could show of an error."""
    shown, at = ["".join(traceback.format_exception(error))], error
    while at is not None:
        shown += [str(at), repr(at), repr(vars(at)), *map(repr, getattr(at, "__notes__", []))]
        at = at.__cause__ or at.__context__
    return "\n".join(shown)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "server", list(dict.fromkeys(PROVIDERS.values())), ids=lambda server: server.__name__
)
def test_no_provider_is_left_out(server: ModuleType) -> None:
    with server.harnesses() as offered:
        assert {one.name for one in offered} == {name for name, at in PROVIDERS.items() if at is server}


def test_a_good_call_gives_text_and_what_it_used(harness: Harness) -> None:
    made = harness.call()
    assert isinstance(made, Reply | Translated)
    assert made.text if isinstance(made, Reply) else all(made.texts)
    assert made.usage.tokens or made.usage.characters
    assert harness.received() == 1


@pytest.mark.parametrize("kind", MEANINGS)
def test_a_failure_means_the_same_everywhere_and_is_one_call(harness: Harness, kind: str) -> None:
    if kind in harness.lacks:
        return
    harness.call()
    harness.fail_with(kind)
    error = failure(harness)
    assert isinstance(error, MEANINGS[kind]), repr(error)
    assert harness.received() == 2, "the SDK asked again by itself"
    told = kind == "throttled with delay"
    assert not isinstance(error, Throttled) or (error.delay is not None and error.delay > 0) is told
    assert len(str(error)) > 20
    assert "\n" not in str(error)
    harness.fail_with("ok")
    harness.call()


@pytest.mark.parametrize("kind", MEANINGS)
def test_no_failure_tells_a_secret(
    harness: Harness, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    if kind in harness.lacks:
        return
    harness.fail_with(kind)
    with caplog.at_level(logging.DEBUG):
        shown = all_that_can_be_printed(failure(harness))
    printed = capfd.readouterr()
    for place in (shown, caplog.text, printed.out, printed.err):
        assert not [secret for secret in harness.secrets if secret in place]
