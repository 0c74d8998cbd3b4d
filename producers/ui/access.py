"""Who may see the pages, and what a browser may do with them.

Access(application, login="me:secret")
"""

import base64
import binascii
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Scripts and styles come from our own files only: a text that becomes markup by an error does nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="votequeue", charset="UTF-8"'}


class Access:
    """Asks for the login, if there is one (``user:password``), and adds the headers to every response."""

    def __init__(self, app: ASGIApp, login: str | None) -> None:
        self._app = app
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        denied = PlainTextResponse("user and password are needed", status_code=401, headers=CHALLENGE)
        answer = self._app if self._admits(Headers(scope=scope)) else denied
        return await answer(scope, receive, send_with_headers)

    def _admits(self, headers: Headers) -> bool:
        if self._login is None:
            return True
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            return False
        return secrets.compare_digest(given, self._login.encode()) and scheme.lower() == "basic"
