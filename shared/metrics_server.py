"""The HTTP server of a process's Prometheus metrics, at /metrics.

serve("127.0.0.1", 9400, prometheus_client.REGISTRY)
"""

import prometheus_client

from shared.errors import UserError

PORT = 9400  # where no other is set


def serve(host: str, port: int, registry: prometheus_client.CollectorRegistry) -> None:
    """Serve a registry's metrics from a daemon thread, to everyone who reaches the address.

    Raises:
        UserError: the port is taken, or this machine has no such address.
    """
    # A time series per counter that no query here needs.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        prometheus_client.start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UserError(
            f"cannot serve metrics on {host} port {port} ({error.strerror or error}): set another "
            "VOTEQUEUE_METRICS_PORT or VOTEQUEUE_METRICS_HOST"
        ) from None
