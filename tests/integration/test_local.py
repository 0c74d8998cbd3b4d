"""The services of one machine, really started: embedded Valkey, Flower, stand-ins for the workers."""

import base64
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from pydantic import SecretStr

from infra import local, process_groups, programs
from shared.errors import UserError
from shared.settings import Settings
from tests import waiting

CONTROLS = [
    "worker/shutdown/x",
    "worker/pool/restart/x",
    "worker/pool/grow/x",
    "worker/pool/shrink/x",
    "worker/pool/autoscale/x",
    "worker/queue/add-consumer/x",
    "worker/queue/cancel-consumer/x",
    "task/apply/infer",
    "task/async-apply/infer",
    "task/send-task/infer",
    "task/abort/x",
    "task/timeout/infer",
    "task/rate-limit/infer",
    "task/revoke/x",
]
# A worker that forks a child and, like one that hangs, listens to no SIGTERM.
STUBBORN = "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); time.sleep(1000)"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        _env_file=None,
        home=tmp_path / "va r%",
        broker_url=SecretStr(f"redis://:pass%20word@127.0.0.1:{free_port()}/0"),
        flower_port=free_port(),
        flower_auth=SecretStr("me:secret"),
    )


@pytest.fixture(autouse=True)
def _proxies_that_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[None]:
    monkeypatch.setattr(programs, "worker_command", lambda queue: ("sleep", "1000"))
    yield
    local.down(settings)


def post(settings: Settings, path: str, login: str | None) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{settings.flower_port}/api/{path}", method="POST")
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def ours(settings: Settings) -> list[psutil.Process]:
    notes = programs.layout(settings).notes
    return [process for group in process_groups.living(notes).values() for process in group]


def test_what_is_up_answers_changes_nothing_for_strangers_and_goes_down_whole(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    local.up(settings, {"train": 2}, detach=True)

    assert {program.name: program.state for program in local.running(settings)} == {
        "valkey": "RUNNING",
        "train-1": "RUNNING",
        "train-2": "RUNNING",
        "flower": "RUNNING",
    }
    written = [settings.home, *settings.home.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in written} == {0}
    with redis.Redis.from_url(settings.broker) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert f"Flower: http://127.0.0.1:{settings.flower_port}" in capsys.readouterr().out
    assert {post(settings, path, None) for path in CONTROLS} == {401}
    assert {post(settings, path, "me:wrong") for path in CONTROLS} == {401}
    assert {path: post(settings, path, "me:secret") for path in CONTROLS} == dict.fromkeys(CONTROLS, 403)
    with pytest.raises(UserError, match="already running"):
        local.up(settings, {}, detach=True)
    assert "word" not in (programs.layout(settings).folder / "supervisord.conf").read_text()

    processes = ours(settings)
    assert len(processes) == 5
    local.down(settings)
    assert not any(process.is_running() for process in processes)
    assert local.running(settings) == []
    capsys.readouterr()
    local.down(settings)
    assert capsys.readouterr().out == "nothing is running\n"


def test_a_killed_supervisord_leaves_nothing_that_down_does_not_find(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "worker_command", lambda queue: (sys.executable, "-c", STUBBORN))
    local.up(settings, {"train": 1}, detach=True)
    processes = ours(settings)
    supervisord = next(process for process in processes if "infra.supervisord" in process.cmdline())

    supervisord.kill()
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert len(alive) == 1  # the worker's own child: nobody held its wrapper

    local.down(settings)
    assert not any(process.is_running() for process in processes)


def test_what_a_crashed_worker_left_is_gone_when_its_next_life_begins(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "worker_command", lambda queue: (sys.executable, "-c", STUBBORN))
    local.up(settings, {"train": 1}, detach=True)
    notes = programs.layout(settings).notes
    first_life = process_groups.living(notes)["train-1"]
    assert len(first_life) == 2
    leader = next(program.pid for program in local.running(settings) if program.name == "train-1")
    os.kill(leader, signal.SIGKILL)
    _, alive = psutil.wait_procs(first_life, timeout=20)
    assert alive == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_supervisord_outlives_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text(
        "[supervisord]\nnodaemon=true\nsilent=true\nlogfile=/dev/full\nlogfile_maxbytes=0\n"
        f"pidfile={tmp_path}/pid\n"
        "[program:talks]\ncommand=sh -c 'while echo much; do sleep 0.1; done'\nstartsecs=0\n"
        "stdout_logfile=/dev/full\nstdout_logfile_maxbytes=0\n"
    )
    command = [*programs.PYTHON, "-m", "infra.supervisord", "-c", str(tmp_path / "conf")]
    with Path("/dev/full").open("w") as full, subprocess.Popen(command, stdout=full, stderr=full) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=4)
        children = psutil.Process(process.pid).children()
        process.terminate()
    assert len(children) == 1


def test_a_note_whose_pid_became_a_strangers_ends_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as stranger:
        try:
            (tmp_path / "infer-1").write_text(f"{stranger.pid} 1000000.0\n")
            assert process_groups.living(tmp_path) == {}
            process_groups.write_note(tmp_path / "infer-1", stranger.pid)
            assert [process.pid for process in process_groups.living(tmp_path)["infer-1"]] == [stranger.pid]
        finally:
            stranger.kill()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_in_the_foreground_everything_ends_with_up(settings: Settings, signal_number: signal.Signals) -> None:
    script = (
        "from infra import local; from shared import settings; local.up(settings.load(), {}, detach=False)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env=programs.environment(settings), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        shown = [line for line in iter(process.stdout.readline, "up; Ctrl-C stops everything\n") if line]
        assert any("flower" in line and "RUNNING" in line for line in shown)
        processes = ours(settings)
        os.kill(process.pid, signal_number)
        process.wait(timeout=60)
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []


def test_a_taken_port_is_named_with_its_setting(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flower = settings.model_copy(update={"flower_port": port})
        with pytest.raises(UserError, match=rf"{port}.* taken.*VOTEQUEUE_FLOWER_PORT"):
            local.up(flower, {}, detach=True)
        broker = settings.model_copy(update={"broker_url": SecretStr(f"redis://127.0.0.1:{port}/0")})
        with pytest.raises(UserError, match=rf"{port}.* taken.*VOTEQUEUE_BROKER_URL"):
            local.up(broker, {}, detach=True)


@pytest.mark.parametrize("login", ["bob:pa%23ss%22@", "bob:p@", ""])
def test_the_embedded_broker_knows_the_urls_user_and_database(settings: Settings, login: str) -> None:
    url = f"redis://{login}127.0.0.1:{free_port()}/20"
    local.up(settings.model_copy(update={"broker_url": SecretStr(url)}), {}, detach=True)
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    if login:
        with redis.Redis.from_url(url.replace(login, "")) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_worker_that_cannot_start_ends_it_all_with_its_last_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Typer prints a usage error in a frame.
    broken = (
        sys.executable,
        "-c",
        "print('╭─ Error ──╮\\n│ no such model  │\\n╰──────────╯'); raise SystemExit(2)",
    )
    monkeypatch.setattr(programs, "worker_command", lambda queue: broken)
    with pytest.raises(UserError, match="train-1 does not start: no such model"):
        local.up(settings, {"train": 1}, detach=True)
    assert ours(settings) == []


def test_what_was_given_up_is_started_again_by_another_up(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    local.up(settings, {"train": 2}, detach=True)
    where = programs.layout(settings)
    with local.supervisor(where) as server:
        server.stopProcess("train-2", True)
    capsys.readouterr()
    local.up(settings, {"train": 2}, detach=True)
    assert "already running here; restarting: train-2" in capsys.readouterr().out
    assert local.names_of(where, "RUNNING") == {"valkey", "train-1", "train-2", "flower"}


def test_a_worker_that_fails_again_and_again_is_never_given_up_and_another_up_says_why(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    script = f"test ! -e {broken} || {{ echo its model is gone; exit 1; }}; exec sleep 1000"
    monkeypatch.setattr(programs, "worker_command", lambda queue: ("sh", "-c", script))
    local.up(settings, {"train": 1}, detach=True)
    broken.touch()
    os.kill(next(p.pid for p in local.running(settings) if p.name == "train-1"), signal.SIGKILL)
    where = programs.layout(settings)
    waiting.until(lambda: "train-1" in local.names_of(where, "BACKOFF"))
    time.sleep(12)  # long enough for the four starts after which supervisord used to give up
    assert local.names_of(where, "FATAL") == set()
    waiting.until(lambda: "train-1" in local.names_of(where, "BACKOFF"))
    with pytest.raises(UserError, match="running here, but train-1 does not start: its model is gone"):
        local.up(settings, {"train": 1}, detach=True)
    broken.unlink()
    waiting.until(lambda: "train-1" in local.names_of(where, "RUNNING"))


def test_an_infer_worker_without_weights_is_not_started(settings: Settings, tmp_path: Path) -> None:
    bare = settings.model_copy(update={"cache": tmp_path})
    with pytest.raises(UserError, match="votequeue weights"):
        local.up(bare, {"infer": 1}, detach=True)


def test_a_broker_elsewhere_is_left_to_its_owner(settings: Settings) -> None:
    cluster = settings.model_copy(update={"broker_url": SecretStr("redis://broker.example:6379/0")})
    assert [program.name for program in programs.programs(cluster, {"train": 1})] == ["train-1", "flower"]


def test_a_home_with_a_long_path_gets_a_short_socket(settings: Settings, tmp_path: Path) -> None:
    long = settings.model_copy(update={"home": tmp_path / ("x" * 120)})
    local.up(long, {}, detach=True)
    try:
        assert len(str(programs.layout(long).socket)) < programs.SOCKET_PATH_LIMIT
        assert len(local.running(long)) == 2
    finally:
        local.down(long)


def test_a_home_that_cannot_be_written_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = settings.model_copy(update={"home": tmp_path / "file" / "var"})
    with pytest.raises(UserError, match="cannot write below"):
        local.up(nowhere, {}, detach=True)


def test_stop_waits_no_longer_than_it_must(settings: Settings) -> None:
    local.up(settings, {"train": 1}, detach=True)
    began = time.monotonic()
    local.down(settings)
    assert time.monotonic() - began < 15
