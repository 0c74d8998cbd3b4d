"""The web application of `votequeue ui`: its pages, and the streams that keep them current.

    GET /                   the overview        GET /events             its changes
    GET /runs/NAME          a run               GET /runs/NAME/events   its changes
    GET /runs/NAME/page     the report page of a run

A page's content is rendered on the server; a stream sends it again when it has changed.
"""

import functools
import io
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

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

from infra.programs import Address
from producers import console
from producers.reports import render, run_page
from producers.ui import content
from producers.ui.access import Access
from shared import urls
from shared.errors import ServiceUnreachable, UserError

FOLDER = Path(__file__).parent
LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")
EVERY = 1.0  # seconds between two looks at the ledger
_EVENTS = re.compile(r"(/runs/[^/]+)?/events")
REST = 5  # times the seconds that a look takes: a large ledger is read less often

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
)
_templates.filters |= {"clock": render.clock, "span": console.span}
Content = Callable[[], str]


def run(host: str, port: int, login: str | None, flower: Address) -> None:
    """Serve the pages until Ctrl-C or SIGTERM; ``flower`` is where Flower listens."""
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


def application(login: str | None, flower: Address, hosts: tuple[str, ...] = LOOPBACK) -> Starlette:
    """Build the application: ``hosts`` are the names under which it may be called."""
    live = Live()

    async def overview(request: Request) -> Response:
        return await live.page(request, "overview", _overview)

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
    served = Starlette(
        routes=routes,
        middleware=[
            Middleware(Access, login=login),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        exception_handlers={UserError: _trouble},
    )
    served.state.flower = flower
    return served


class Live:
    """Renders contents for all who look at them, one at a time, and each at most once a second."""

    def __init__(self) -> None:
        self._rendering = anyio.Lock()
        self._rendered: dict[str, tuple[float, str]] = {}

    async def page(self, request: Request, title: str, render_content: Content) -> Response:
        """Answer a request for a page, or for the stream of its changes."""
        if _EVENTS.fullmatch(request.scope["path"]):
            stopping = anyio.Event()
            changes = self._changes(title, render_content, stopping)
            return EventSourceResponse(changes, shutdown_event=stopping, shutdown_grace_period=2 * EVERY)
        text = await self._render(title, render_content)
        return HTMLResponse(_page(request, title, Markup(text)))  # noqa: S704  rendered by our own templates

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


def _overview() -> str:
    return _templates.get_template("overview.html").render(content.overview()).strip()


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
    title = "Not found" if unknown else "Not available"
    text = Markup("<h1>{}</h1><p>{}</p>").format(title, error)
    # The page shows its content when the ledger answers again.
    return HTMLResponse(_page(request, title, text, live=not unknown), status_code=404 if unknown else 503)


def _page(request: Request, title: str, content: Markup, live: bool = True) -> str:
    events = f"{request.scope['path'].rstrip('/')}/events"
    flower = _flower(request.app.state.flower, request.url.hostname or "")
    return _templates.get_template("page.html").render(
        title=title,
        content=content,
        events=quote(events) if live and _EVENTS.fullmatch(events) else "",
        flower=flower,
    )


def _flower(flower: Address, host: str) -> str | None:
    """Give Flower's URL for a browser that calls this server ``host``; ``None``: it cannot reach Flower."""
    if urls.is_loopback(flower.host) and not urls.is_loopback(host):
        return None
    seen = Address(host if flower.near != flower.host else flower.host, flower.port)
    return f"http://{seen.url_host}:{seen.port}/"
