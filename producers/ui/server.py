"""The web application of `votequeue ui`: its pages, and the streams that keep them current.

    GET /                   the overview        GET /events             its changes
    GET /runs/NAME          a run               GET /runs/NAME/events   its changes
    GET /runs/NAME/page     the report page of a run

A page's content is rendered on the server; a stream sends it again when it has changed.
"""

import functools
import io
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import jinja2
import uvicorn
from markupsafe import Markup
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from producers import console
from producers.reports import render, run_page
from producers.ui import content
from producers.ui.access import Access
from shared import urls
from shared.errors import ServiceUnreachable, UserError

FOLDER = Path(__file__).parent
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
EVERY = 1.0  # seconds between two looks at the ledger
REST = 5  # times the seconds that a look takes: a large ledger is read less often

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
)
_templates.filters |= {"clock": render.clock, "span": console.span}
Content = Callable[[], str]


def run(host: str, port: int, login: str | None, flower: str) -> None:
    """Serve the pages until Ctrl-C or SIGTERM; ``flower`` is the URL of Flower."""
    # Beyond loopback a page's name is not known, but there the login protects it: no browser sends it to
    # another name.
    hosts = (*LOOPBACK, host) if urls.is_loopback(host) else ("*",)
    uvicorn.run(
        application(login, flower, hosts),
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


def application(login: str | None, flower: str, hosts: tuple[str, ...] = LOOPBACK) -> Starlette:
    """Build the application: ``hosts`` are the names under which it may be called."""
    live = Live()

    async def overview(request: Request) -> Response:
        return await live.page(request, "overview", functools.partial(_overview, flower))

    async def of_run(request: Request) -> Response:
        name = request.path_params["name"]
        return await live.page(request, f"run {name}", functools.partial(_run, name))

    routes = [
        Route("/", overview),
        Route("/events", overview),
        Route("/runs/{name}", of_run),
        Route("/runs/{name}/events", of_run),
        Route("/runs/{name}/page", _report_page),
        Mount("/static", StaticFiles(directory=FOLDER / "static")),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(Access, login=login),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={UserError: _trouble},
    )


class Live:
    """Renders contents for all who look at them, one at a time, and each at most once a second."""

    def __init__(self) -> None:
        self._rendering = anyio.Lock()
        self._rendered: dict[str, tuple[float, str]] = {}

    async def page(self, request: Request, title: str, render_content: Content) -> Response:
        """Answer a request for a page, or for the stream of its changes."""
        path = request.url.path
        if path.endswith("/events"):
            stopping = anyio.Event()
            changes = self._changes(title, render_content, stopping)
            return EventSourceResponse(changes, shutdown_event=stopping, shutdown_grace_period=2 * EVERY)
        text = await self._render(title, render_content)
        events = f"{path.rstrip('/')}/events"
        return HTMLResponse(_page(title, Markup(text), events))  # noqa: S704  rendered by our own templates

    async def _changes(
        self, title: str, render_content: Content, stopping: anyio.Event
    ) -> AsyncIterator[ServerSentEvent]:
        shown = ""
        while not stopping.is_set():
            try:
                text, event = await self._render(title, render_content), "content"
            except UserError as error:
                text, event = str(error), "trouble"
            if text != shown:
                yield ServerSentEvent(text, event=event)
                shown = text
            with anyio.move_on_after(EVERY):
                await stopping.wait()

    async def _render(self, title: str, render_content: Content) -> str:
        async with self._rendering:
            due, text = self._rendered.get(title, (0.0, ""))
            if (begun := time.monotonic()) >= due:
                text = await run_in_threadpool(render_content)
                ended = time.monotonic()
                self._rendered[title] = ended + max(EVERY / 2, REST * (ended - begun)), text
        return text


def _overview(flower: str) -> str:
    return _templates.get_template("overview.html").render(content.overview(), flower=flower).strip()


def _run(name: str) -> str:
    return _templates.get_template("run.html").render(content.of_run(name)).strip()


def _report_page(request: Request) -> Response:
    """Send a run's report page, which has its own policy."""
    page = io.StringIO()
    run_page.write(request.path_params["name"], page)
    policy = f"{run_page.policy()}; frame-ancestors 'none'; sandbox allow-scripts allow-downloads"
    return HTMLResponse(page.getvalue(), headers={"Content-Security-Policy": policy})


async def _trouble(request: Request, error: Exception) -> Response:
    unknown = "name" in request.path_params and not isinstance(error, ServiceUnreachable)
    text = _page("votequeue", Markup("<p>{}</p>").format(error), events="")
    return HTMLResponse(text, status_code=404 if unknown else 503)


def _page(title: str, content: Markup, events: str) -> str:
    return _templates.get_template("page.html").render(title=title, content=content, events=events)
