"""An HTTP proxy that counts, and leads every address to one server of this machine.

    with proxy.running("http://127.0.0.1:4711") as (url, asked): ...   asked == ["GET http://vectors.lan/readyz"]

Nothing is tunnelled: it is for http:// addresses.
"""

import contextlib
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class _Handler(BaseHTTPRequestHandler):
    target: str
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = self.target + urlsplit(self.path)._replace(scheme="", netloc="").geturl()
        wanted = {name: text for name, text in self.headers.items() if name != "Host"}
        request = urllib.request.Request(url, body or None, wanted, method=self.command)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=5) as reply:
                self._pass_on(reply.status, reply.headers.get("Content-Type"), reply.read())
        except urllib.error.HTTPError as error:
            with error:
                self._pass_on(error.code, None, error.read())

    do_PUT = do_POST = do_CONNECT = do_GET  # noqa: N815  (the names are http.server's)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""

    def _pass_on(self, status: int, kind: str | None, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def running(target: str = "http://127.0.0.1:9") -> Iterator[tuple[str, list[str]]]:
    """Run one; give its URL and what it is asked for."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"target": target, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
