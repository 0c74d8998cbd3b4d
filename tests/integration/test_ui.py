"""`votequeue ui`: who may see it, what it shows, and that it is current."""

import base64
import contextlib
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from playwright.sync_api import Page
from starlette.testclient import TestClient

from infra.programs import Address
from producers.ui import server
from shared import broker, service_pauses, settings
from shared.dataset import Line, scan
from shared.ledger import calls, claims, controls, engine, leases, runs
from shared.ledger.runs import Run
from shared.options import Sampling
from tests import waiting
from tests.browser import chromium, serious_faults
from tests.conftest import Command, forget
from tests.integration import run_fixtures
from tests.valkey import free_port

__all__ = ["chromium"]
LOGIN = "me:sécret"
FLOWER = Address("127.0.0.1", 5999)
HOSTILE = "<script>alert(1)<img src=x onerror=alert(2)>\"'&"
pytestmark = pytest.mark.usefixtures("on_broker")


def client(login: str | None = None, host: str = "localhost") -> TestClient:
    return TestClient(server.application(login, FLOWER), base_url=f"http://{host}")


def authorization(login: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}


def enqueue(home: Path, count: int = 3, name: str = "r") -> None:
    data = run_fixtures.write(home / f"{name}.jsonl", run_fixtures.entry("p1", "A" * count))
    run_fixtures.infer(data, Sampling(), name)


@pytest.mark.parametrize("path", ["/", "/runs/r", "/runs/nothing", "/nowhere", "/static/ui.js"])
def test_every_answer_forbids_what_a_page_does_not_need(home: Path, path: str) -> None:
    enqueue(home)
    headers = client().get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers
    assert "server" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
)
def test_another_name_for_this_machine_is_refused(home: Path, host: str) -> None:
    assert client(host=host).get("/").status_code == 400
    assert client(host=host).get("/static/ui.js").status_code == 400


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5556", "[::1]:5556"])
def test_its_own_names_are_answered(home: Path, host: str) -> None:
    assert client(host=host).get("/").status_code == 200


@pytest.mark.parametrize("path", ["/", "/events", "/runs/r", "/runs/r/page", "/static/ui.css", "/nowhere"])
def test_without_the_login_nothing_is_shown(home: Path, path: str) -> None:
    guarded = client(LOGIN)
    wrong = ["me:secret", "", ":", "me:", "me:sécre", "me:sécrets"]
    headers: list[dict[str, str]] = [{}, *map(authorization, wrong)]
    headers += [{"Authorization": value} for value in ("Basic", "Basic !", "Bearer me", "é")]
    headers += [{"Authorization": authorization(LOGIN)["Authorization"].replace("Basic", "Bearer")}]
    for given in headers:
        answer = guarded.get(path, headers={name: value.encode() for name, value in given.items()})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")
        assert "content-security-policy" in answer.headers


def test_with_the_login_it_is_shown(home: Path) -> None:
    assert client(LOGIN).get("/", headers=authorization(LOGIN)).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_changed(home: Path, method: str) -> None:
    enqueue(home)
    for path in ("/", "/events", "/runs/r", "/runs/r/events", "/runs/r/page", "/static/ui.js"):
        assert client().request(method, path).status_code == 405


def test_the_command_refuses_an_open_address_without_a_login(home: Path, votequeue: Command) -> None:
    ended = votequeue("ui", "--host", "0.0.0.0")
    assert ended.code == 1
    assert "VOTEQUEUE_FLOWER_AUTH" in ended.err
    assert "--host" in ended.err


@pytest.mark.usefixtures("any_ledger")
def test_the_overview_shows_runs_workers_queues_pauses_and_spending(home: Path) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 1)
    claims.bury(run_fixtures.claim("r", 1)[0], "refused: no")
    leases.heartbeat("host:1:a", 60, queues=["infer", "infer.other"])
    with engine.writing() as connection:
        calls.put_budget(connection, "r", 20.0)
    calls.pause("chat/m@1f0c22aa", "no credit is left", None)
    text = client().get("/").text
    assert '<progress aria-label="progress of r" value="2" max="3"></progress>' in text
    assert "<td>2/3</td>" in text
    assert "<td>0 of 20</td>" in text
    assert '<th scope="row">host:1:a</th><td class="long">infer, infer.other</td><td>0</td>' in text
    assert '<th scope="row">infer</th><td>3</td><td>1</td>' in text
    assert "chat/m@1f0c22aa is stopped until a person fixes the cause: no credit is left" in text
    assert "Dead items in all runs: 1." in text
    assert "<li>scorer: none</li>" in text
    assert 'href="http://127.0.0.1:5999/"' in text


def test_the_overview_shows_what_a_person_has_decided(home: Path) -> None:
    for name in ("cancelled", "paused"):
        enqueue(home, name=name)
    run_fixtures.answer_all("cancelled", 1)
    controls.cancel("cancelled")
    controls.pause("paused")
    controls.set_priority("paused", 7)
    text = client().get("/").text
    assert '<progress aria-label="progress of cancelled" value="3" max="3"></progress>' in text
    assert "<td>3/3</td>" in text
    assert "<td>2 cancelled</td>" in text
    assert '<progress aria-label="progress of paused" value="0" max="3"></progress>' in text
    assert "<td>paused, priority 7</td>" in text


@pytest.mark.parametrize(
    ("listens", "host", "link"),
    [
        ("127.0.0.1", "127.0.0.1:5556", "http://127.0.0.1:5999/"),
        ("127.0.0.1", "gpu7.example:5556", None),
        ("0.0.0.0", "gpu7.example:5556", "http://gpu7.example:5999/"),
        ("0.0.0.0", "localhost:5556", "http://localhost:5999/"),
        ("::", "[2001:db8::7]:5556", "http://[2001:db8::7]:5999/"),
        ("10.0.0.7", "gpu7.example", "http://10.0.0.7:5999/"),
    ],
)
def test_the_link_to_flower_is_one_that_the_browser_can_follow(
    home: Path, listens: str, host: str, link: str | None
) -> None:
    pages = TestClient(server.application(None, Address(listens, 5999), ("*",)), base_url=f"http://{host}")
    text = pages.get("/").text
    assert re.findall(r'<a href="([^"]*)" rel', text) == ([link] if link else [])


def test_a_broker_that_is_away_is_said_without_an_open_queue(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "The broker does not answer" not in client().get("/").text
    monkeypatch.setenv("VOTEQUEUE_BROKER_URL", "redis://127.0.0.1:1/0")
    forget()
    assert "The broker does not answer" in client().get("/").text


@pytest.mark.parametrize("name", ["events", "page", "a?b#c"])
def test_a_run_of_any_name_has_its_page_and_its_stream(home: Path, name: str) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A"))
    lines = [line for line in scan(data) if isinstance(line, Line)]
    runs.open_run(Run(name, "infer", "data", "d", None, {}), lines)
    text = client().get(f"/runs/{quote(name)}").text
    assert f"<h1>Run {name}</h1>" in text
    assert f'data-events="/runs/{quote(name)}/events"' in text


def test_the_overview_shows_limits_and_pauses_of_the_services_of_open_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOTEQUEUE_LIMITS", '{"chat": {"per_second": 2.5, "per_day": 1000}}')
    settings.load.cache_clear()
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "A"))
    lines = [line for line in scan(data) if isinstance(line, Line)]
    options = {"provider": "chat", "model": "m"}
    runs.open_run(Run("open", "reason", "data", "d", None, options), lines)
    record = json.dumps({"until": time.time() + 1000, "said": "429: slow down"})
    broker.client().set(service_pauses.key("chat/m@1f0c22aa") + service_pauses.SUFFIX, record)
    text = client().get("/").text
    assert '<th scope="row">chat/m</th><td>per second: 2.5, per minute: 300, per day: 1000, ' in text
    assert re.search(r"chat/m@1f0c22aa is not called for 1[67] min: 429: slow down", text)


def test_a_run_shows_its_progress_and_why_items_are_dead(home: Path) -> None:
    enqueue(home)
    claims.bury(run_fixtures.claim("r", 1)[0], "refused: no")
    text = client().get("/runs/r").text
    assert "1/3 settled, 2 waiting, 1 dead" in text
    assert '<td class="long">p1#2</td><td>1</td><td>0</td><td class="long">refused: no</td>' in text
    assert 'href="/runs/r/page"' in text


def test_the_report_page_of_a_run_is_served_with_its_own_policy(home: Path) -> None:
    enqueue(home)
    run_fixtures.answer_all("r", 3)
    answer = client().get("/runs/r/page")
    assert answer.status_code == 200
    assert "votequeue run r" in answer.text
    assert "sha256-" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert client().get("/runs/nothing/page").status_code == 404


def test_an_unknown_run_and_a_ledger_that_is_away_are_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client().get("/runs/nothing")
    assert answer.status_code == 404
    assert "no run is called" in answer.text
    assert "<h1>Not found</h1>" in answer.text
    assert 'data-events=""' in answer.text
    engine.engine().dispose()
    engine.engine.cache_clear()
    monkeypatch.setenv("VOTEQUEUE_LEDGER_URL", f"postgresql://127.0.0.1:{free_port()}/none")
    settings.load.cache_clear()
    answer = client().get("/")
    assert answer.status_code == 503
    assert "does not work" in answer.text
    assert "<title>Not available - votequeue</title>" in answer.text
    assert 'data-events="/events"' in answer.text  # so that it comes back by itself


def test_no_text_of_the_ledger_becomes_markup(home: Path) -> None:
    data = run_fixtures.write(home / "data.jsonl", run_fixtures.entry("p1", "AA"))
    lines = [line for line in scan(data) if isinstance(line, Line)]
    runs.open_run(Run(HOSTILE, "infer", HOSTILE, "d", None, {}), lines)
    claims.bury(run_fixtures.claim(HOSTILE, 0)[0], HOSTILE)
    leases.heartbeat(HOSTILE, 60, queues=[HOSTILE])
    calls.pause(f"chat/{HOSTILE}", HOSTILE, None)
    for path in ("/", f"/runs/{quote(HOSTILE)}", "/runs/%3Cscript%3E"):
        text = client().get(path).text
        assert "&lt;script&gt;" in text
        assert "<script>" not in text
        assert "<img" not in text


# A real server, and a real browser


@contextlib.contextmanager
def serving() -> Iterator[tuple[uvicorn.Server, str]]:
    port = free_port()
    config = uvicorn.Config(
        server.application(None, FLOWER), port=port, log_level="error", timeout_graceful_shutdown=1
    )
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run)
    thread.start()
    waiting.until(lambda: served.started)
    try:
        yield served, f"http://127.0.0.1:{port}"
    finally:
        served.should_exit = True
        thread.join(30)


def test_a_stream_sends_changes_holds_no_connection_and_ends_with_its_client(home: Path) -> None:
    enqueue(home)
    with serving() as (served, url):
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{url}/runs/r/events", timeout=60) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert "script-src 'self'" in stream.headers["content-security-policy"]
            first = next(line for line in stream if b"settled" in line)
            assert b"0/3 settled" in first
            waiting.until(lambda: engine.engine().pool.checkedout() == 0)  # type: ignore[attr-defined]
            run_fixtures.answer_all("r", 2)
            second = next(line for line in stream if b"settled" in line)
            assert b"2/3 settled" in second
            assert len(served.server_state.tasks) == 1
        waiting.until(lambda: not served.server_state.tasks)


def test_the_page_changes_without_a_reload_and_keeps_the_focus(home: Path, chromium: Page) -> None:
    enqueue(home)
    with serving() as (_, url):
        chromium.goto(url)
        chromium.evaluate("window.loaded = 'once'")
        chromium.get_by_role("link", name="r", exact=True).focus()
        assert chromium.locator("tbody tr td").nth(2).inner_text() == "0/3"
        enqueue(home, name="newer")  # its row comes first
        run_fixtures.answer_all("r", 2)
        chromium.get_by_text("2/3").wait_for()
        assert chromium.get_by_label("progress of r", exact=True).get_attribute("value") == "2"
        assert chromium.locator("tbody th").first.inner_text() == "newer"
        assert chromium.evaluate("window.loaded") == "once"
        assert chromium.evaluate("document.activeElement.getAttribute('href')") == "/runs/r"
        assert serious_faults(chromium) == []
        chromium.emulate_media(color_scheme="dark")
        assert serious_faults(chromium) == []

        chromium.keyboard.press("Enter")
        chromium.wait_for_url(f"{url}/runs/r")
        chromium.get_by_text("2/3 settled").wait_for()
        claims.bury(run_fixtures.claim("r", 2)[0], HOSTILE)
        chromium.get_by_text(HOSTILE).wait_for()
        assert chromium.locator("main img, main script").count() == 0
        assert serious_faults(chromium) == []
        chromium.goto("about:blank")
