"""The `ui` command: parse, call.

votequeue ui --port 8080
"""

from typing import Annotated

import typer

from shared import settings
from shared.errors import UserError


def ui(
    host: Annotated[
        str, typer.Option(help="listen address; beyond loopback, VOTEQUEUE_FLOWER_AUTH is required")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 5556,
) -> None:
    """Serve live pages of all runs, workers, queues and services; read-only."""
    from infra import programs
    from producers import console

    loaded = settings.load()
    address = programs.guarded("the page", programs.Address(host, port), loaded, "--host")
    if not address.free():
        raise UserError(f"port {port} on {host} is taken: stop what listens there, or choose another --port")
    from producers.ui import server

    everywhere = " on all addresses of this machine" if address.near != host else ""
    console.note(f"serving http://{address.url_host}:{port}/{everywhere} (Ctrl-C ends it)")
    flower = programs.Address(loaded.flower_host, loaded.flower_port)
    server.run(host, port, programs.flower_login(loaded), flower)
