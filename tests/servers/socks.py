"""A SOCKS5 proxy (RFC 1928, no login) that counts, and leads every address to one server of this machine.

with socks.running(4711) as (url, asked): ...   asked == ["chat.invalid:443"]
"""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator

HOST_IPV4, HOST_NAME, HOST_IPV6 = 1, 3, 4
DONE = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


class _Handler(socketserver.StreamRequestHandler):
    port: int
    asked: list[str]

    def handle(self) -> None:
        _, methods = self.rfile.read(2)
        self.rfile.read(methods)
        self.wfile.write(b"\x05\x00")
        kind = self.rfile.read(4)[3]
        length = self.rfile.read(1)[0] if kind == HOST_NAME else {HOST_IPV4: 4, HOST_IPV6: 16}[kind]
        host = self.rfile.read(length)
        port = int.from_bytes(self.rfile.read(2), "big")
        self.asked.append(f"{host.decode() if kind == HOST_NAME else socket.inet_ntoa(host)}:{port}")
        with socket.create_connection(("127.0.0.1", self.port)) as there:
            self.wfile.write(DONE)
            back = threading.Thread(target=_pump, args=(there, self.connection))
            back.start()
            _pump(self.connection, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes is no error of the proxy."""


@contextlib.contextmanager
def running(port: int) -> Iterator[tuple[str, list[str]]]:
    """Run one before a server's port; give its host and port, and what it is asked for."""
    asked: list[str] = []
    with _Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"port": port, "asked": asked})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()
