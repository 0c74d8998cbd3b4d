"""A training's process, seen from its worker: what it says is heard, and it never outlives its claim."""

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from shared.errors import EngineDied, Refused, ServiceUnreachable
from workers.ports import Interrupted
from workers.training import supervisor
from workers.training.ipc import Message, StartTraining, Step, TrainedModel
from workers.training.supervisor import Superseded

MADE = (
    '{"kind": "trained", "name": "scorer-1", "folder": "/x", "metrics": {}, "rule": null, '
    '"comparison": null, "problems": []}'
)
SAYS = "import sys, time\nsys.stdin.readline()\ndef say(words): print(words, flush=True)\n"
WAITS = "for _ in sys.stdin: pass\n"


@pytest.fixture(autouse=True)
def _no_oom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the kernel say that it has killed nothing for want of memory."""
    told = tmp_path / "vmstat"
    told.write_text("nr_free_pages 1\noom_kill 3\n")
    monkeypatch.setattr(supervisor, "OOM_KILLS", told)
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 1.0)
    return told


class Watch:
    """A worker's side: what it heard, whether its claim holds, whether it is to stop."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.queries = 0
        self.holding: bool | Exception = True
        self.stop = False

    def holds(self) -> bool:
        self.queries += 1
        if isinstance(self.holding, Exception):
            raise self.holding
        return self.holding


def supervise(program: str, tmp_path: Path, watch: Watch | None = None) -> TrainedModel:
    watch = watch or Watch()
    order = StartTraining(run="t", fence=1, folder=tmp_path, parent=os.getpid(), patience=15)
    return supervisor.supervise(
        order,
        beat=0.05,
        report=watch.heard.append,
        holds=watch.holds,
        stopping=lambda: watch.stop,
        command=(sys.executable, "-c", SAYS + program),
    )


def test_what_it_says_is_heard_in_order_and_the_model_comes_back(tmp_path: Path) -> None:
    watch = Watch()
    program = "".join(
        f"""say('{{"kind": "step", "step": {at}, "total_steps": 9, "metrics": {{"loss": 0.5}}}}')\n"""
        for at in (1, 2)
    )
    made = supervise(program + f"say('{MADE}')\n", tmp_path, watch)
    assert made.name == "scorer-1"
    assert watch.heard == [Step(step=at, total_steps=9, metrics={"loss": 0.5}) for at in (1, 2)]


def test_what_nobody_understands_is_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert supervise(f"say('hello')\nsay('{MADE}')\n", tmp_path).name == "scorer-1"
    assert "sent an invalid message" in caplog.text


def test_a_failure_comes_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^the disk is full$"):
        supervise("""say('{"kind": "failed", "reason": "the disk is full"}')\n""", tmp_path)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit(7)", r"ended without a final message \(exit 7\)"),
        ("pass", r"ended without a final message \(exit 0\)"),
        ("import os; os.kill(os.getpid(), 11)", r"was killed \(SIGSEGV\)"),
        ("import os; os.kill(os.getpid(), 9)", r"was killed \(SIGKILL\)"),
    ],
)
def test_a_death_is_a_loss_and_not_a_failure(program: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(EngineDied, match=reason):
        supervise(program, tmp_path)


def test_a_death_for_want_of_memory_is_told_with_what_to_do(tmp_path: Path) -> None:
    told = tmp_path / "vmstat"
    program = f"open({str(told)!r}, 'w').write('oom_kill 4\\n'); import os; os.kill(os.getpid(), 9)"
    with pytest.raises(
        Refused, match=r"ran out of memory and the kernel killed the training: lower --batch-size"
    ):
        supervise(program, tmp_path)


def test_it_is_told_that_the_claim_holds_again_and_again(tmp_path: Path) -> None:
    program = f"for at in range(4): assert sys.stdin.readline() == 'holds\\n'\nsay('{MADE}')\n"
    watch = Watch()
    supervise(program, tmp_path, watch)
    assert watch.queries >= 4


def test_when_the_claim_is_lost_it_ends_at_once(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    watch = Watch()
    program = f"import os; open({str(pid)!r}, 'w').write(str(os.getpid()))\n" + WAITS
    watch.holds = lambda: not pid.exists() or not pid.read_text()  # type: ignore[method-assign]
    with pytest.raises(Superseded):
        supervise(program, tmp_path, watch)
    assert not psutil.pid_exists(int(pid.read_text()))


def test_while_nobody_knows_whether_the_claim_holds_it_is_not_told_so(tmp_path: Path) -> None:
    watch = Watch()
    watch.holding = ServiceUnreachable("the ledger does not answer")
    program = "import select\nassert not select.select([sys.stdin], [], [], 0.5)[0]\n" + f"say('{MADE}')\n"
    assert supervise(program, tmp_path, watch).name == "scorer-1"
    assert watch.queries >= 2


def test_a_stop_is_passed_on_and_its_checkpoint_waited_for(tmp_path: Path) -> None:
    watch = Watch()
    watch.stop = True
    program = (
        "import signal\nstopped = []\nsignal.signal(15, lambda *_: stopped.append(1))\n"
        "while not stopped: time.sleep(0.01)\n"
        """say('{"kind": "saved", "step": 3, "total_steps": 9}')\nsay('{"kind": "stopped"}')\n"""
    )
    # The signal may come before the handler is set: this process then ends, as it would at its start.
    with pytest.raises(Interrupted):
        supervise(program, tmp_path, watch)


def test_what_does_not_heed_a_stop_is_killed(tmp_path: Path) -> None:
    watch = Watch()
    watch.stop = True
    began = time.monotonic()
    with pytest.raises(Interrupted):
        supervise("import signal\nsignal.signal(15, signal.SIG_IGN)\n" + WAITS + WAITS, tmp_path, watch)
    assert time.monotonic() - began < 20


def test_where_the_kernel_does_not_tell_of_kills_none_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "OOM_KILLS", tmp_path / "nothing")
    with pytest.raises(EngineDied, match=signal.Signals(9).name):
        supervise("import os; os.kill(os.getpid(), 9)", tmp_path)
