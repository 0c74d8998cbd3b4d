"""A Celery app with a task that does nothing, which shows what each message costs by itself.

    celery -A tests.nothing_app worker --queues nothing --pool threads

It has the product's settings, over kombu's own Redis transport.
"""

import sys
from typing import Any

from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from shared import broker

NAME = "nothing"
TRANSPORT_ALIASES["redis"] = "kombu.transport.redis:Transport"


def _configuration() -> dict[str, Any]:
    same = broker._configuration()
    options = dict(same["broker_transport_options"])
    del options["priority_steps"]
    return {**same, "broker_transport_options": options, "task_queues": None}


app = Celery(NAME)
app.add_defaults(_configuration)


@app.task(name=NAME)
def nothing(**_: object) -> str:
    """Do nothing."""
    return NAME


def send(count: int) -> None:
    """Send so many messages."""
    with app.connection_for_write() as connection, connection.Producer() as producer:
        for item in range(count):
            nothing.apply_async(kwargs={"run": NAME, "item": item}, queue=NAME, producer=producer)


if __name__ == "__main__":
    send(int(sys.argv[1]))
