"""The Celery app: a queue per job kind, generator and model, JSON on the wire, and `send`.

    send(Infer(run="round1", item=41))  ->  task "infer", queue "infer", kwargs {"run": "round1", "item": 41}

The broker only transports. The reconcile loop sends lost messages again.
"""

import base64
import contextlib
import functools
import json
import socket
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery
from kombu import Exchange, Producer, Queue
from kombu.exceptions import BatchPublishError, OperationalError
from kombu.transport import TRANSPORT_ALIASES

from shared import broker_errors, redis_transport, settings
from shared.errors import ServiceUnreachable
from shared.jobs import KINDS, Infer, Job, Train
from shared.ledger import runs

KEY_PREFIX = "votequeue:"
UNACKED, UNACKED_INDEX = KEY_PREFIX + "unacked", KEY_PREFIX + "unacked_index"  # kombu's
QUEUES = tuple(KINDS)
# As for PostgreSQL: the kernel gives a connection up whose packets have been lost for 15 s. Without that, a
# worker that was cut off would wait for messages for two hours.
_ALIVE = dict(zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), (5, 3, 3), strict=True))
_ALIVE[socket.TCP_USER_TIMEOUT] = 15_000
# Registered under kombu's own names, so that URLs need no change.
TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "shared.redis_transport:Transport"))


def _configuration() -> dict[str, Any]:
    return {
        "broker_url": settings.load().broker,
        "broker_connection_max_retries": None,
        "broker_connection_retry_on_startup": True,
        # Wait for a broker that rejects writes (full memory, full disk); by default, the worker exits.
        "broker_channel_error_retry": True,
        "broker_transport_options": {
            "global_keyprefix": KEY_PREFIX,
            "visibility_timeout": 600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            # Flower uses this for its counts, too.
            "priority_steps": redis_transport.Channel.priority_steps,
            "health_check_interval": 5,
            "socket_timeout": 15,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "socket_keepalive_options": _ALIVE,
        },
        "task_queues": [Queue(word, Exchange(word), routing_key=word) for word in QUEUES],
        # The queues of generators and models are named as runs need them (`shared.generators`).
        "task_create_missing_queues": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_acks_late": True,
        "task_ignore_result": True,
        "task_send_sent_event": False,
        "worker_prefetch_multiplier": 1,
        "worker_send_task_events": True,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
    }


# Producers without a task at present, by the broker's URL: to connect takes longer than to send.
_idle: dict[str, deque[Producer]] = {}
app = Celery("votequeue", set_as_current=True)
app.add_defaults(_configuration)


def send(jobs: Sequence[Job], first: bool = False) -> int:
    """Publish jobs over one connection; return their number.

    Workers take jobs sent ``first`` before all others.

    Raises:
        ServiceUnreachable: the broker does not answer, or does not accept some of them.
    """
    idle = _idle.setdefault(app.conf.broker_url, deque())
    try:
        producer = idle.pop() if idle else _connect()
        with producer.batch():
            for job in jobs:
                _publish(producer, job, first)
    except (BatchPublishError, OperationalError, redis.RedisError, OSError) as error:
        raise unreachable(error) from None
    idle.append(producer)
    return len(jobs)


def _publish(producer: Producer, job: Job, first: bool) -> None:
    queue = _queue(job)
    # The id names the question, which makes it searchable in Flower and the logs. A training continues as the
    # same task: its message is acknowledged at once, so that nothing in the broker would name a killed one.
    task_id = f"{job.run}.{job.item}" + ("" if job.queue == Train.queue else f".{uuid.uuid4().hex[:8]}")
    app.send_task(
        job.queue,
        kwargs=job.model_dump(),
        queue=queue,
        routing_key=queue,
        priority=redis_transport.FIRST if first else 0,
        task_id=task_id,
        producer=producer,
        declare=[],  # messages go to their queue by its name
        retry=False,
    )


def _connect() -> Producer:
    connection = app.connection_for_write()
    connection.ensure_connection(max_retries=1, timeout=5)
    return connection.Producer()


def _queue(job: Job) -> str:
    """Name the queue of a job's run; only those of `infer` have one of their own."""
    if job.queue == Infer.queue:
        with contextlib.suppress(LookupError):
            return queue_of(job.run)
    return job.queue


@functools.lru_cache(maxsize=256)
def queue_of(run: str) -> str:
    """Name the queue of a run, which never changes.

    Raises:
        LookupError: there is no such run.
    """
    if (found := runs.find_run(run)) is None:
        raise LookupError(run)
    return found.queue


def consumed() -> list[str]:
    """Name the queues that this worker process consumes."""
    return sorted(app.amqp.queues.consume_from)


@functools.cache
def client() -> "redis.Redis":
    """Give the plain Redis client, for what Celery lacks: queue lengths and the broker's identity."""
    return redis.Redis.from_url(settings.load().broker, socket_timeout=5, socket_connect_timeout=5)


def waiting(queue: str) -> int:
    """Count the messages in a queue that no worker has taken."""
    try:
        with client().pipeline(transaction=False) as pipe:
            for name in redis_transport.lists(KEY_PREFIX + queue):
                pipe.llen(name)
            return sum(pipe.execute())
    except redis.RedisError as error:
        raise unreachable(error) from None


def clear(queue: str) -> None:
    """Drop the messages of a queue that no worker has taken; the ledger has their items.

    Messages that were sent first stay.
    """
    try:
        client().delete(redis_transport.lists(KEY_PREFIX + queue)[1])
    except redis.RedisError as error:
        raise unreachable(error) from None


@dataclass(frozen=True)
class Taken:
    """A message that a worker has taken but not acknowledged.

    ``job`` is what it is about, and ``task`` the id of its Celery task; ``None`` if it is unreadable.
    """

    tag: str
    job: Job | None
    task: str | None


def taken(before: float, skip: int, limit: int) -> list[Taken]:
    """List unacknowledged messages taken before a time of the broker (see `now`), oldest first.

    Killed workers leave such messages. kombu would put them back into the queue after its visibility timeout.
    """
    try:
        tags: Any = client().zrange(UNACKED_INDEX, "-inf", before, byscore=True, offset=skip, num=limit)
        raw: Any = client().hmget(UNACKED, tags) if tags else []
    except redis.RedisError as error:
        raise unreachable(error) from None
    return [Taken(_text(tag), *_job(message)) for tag, message in zip(tags, raw, strict=True)]


def drop(messages: Sequence[Taken]) -> None:
    """Remove messages that were taken, as an acknowledgement would."""
    tags = [message.tag for message in messages]
    if not tags:
        return
    try:
        with client().pipeline() as pipe:
            pipe.hdel(UNACKED, *tags)
            pipe.zrem(UNACKED_INDEX, *tags)
            pipe.execute()
    except redis.RedisError as error:
        raise unreachable(error) from None


def report(done: Mapping[str, str], lost: Mapping[str, str], node: str | None) -> None:
    """Tell Flower how tasks have ended whose workers are gone: their outcomes by their ids.

    ``node`` is the Celery name of the worker that reports it.

    Raises:
        ServiceUnreachable: the broker does not answer.
    """
    try:
        with app.events.default_dispatcher(hostname=node) as dispatcher:
            for task, outcome in done.items():
                dispatcher.send("task-succeeded", uuid=task, result=repr(outcome), runtime=None)
            for task, outcome in lost.items():
                dispatcher.send("task-failed", uuid=task, exception=outcome)
    except (OperationalError, redis.RedisError, OSError) as error:
        raise unreachable(error) from None


def _job(raw: bytes | str | None) -> tuple[Job | None, str | None]:
    """Parse job and task of a message as kombu stores it: message, exchange, routing key."""
    try:
        message, _exchange, queue = json.loads(raw or "null")
        _arguments, keywords, _embedded = json.loads(base64.b64decode(message["body"]))
        return KINDS[queue.partition(".")[0]].model_validate(keywords), message["headers"]["id"]
    except (ValueError, TypeError, KeyError):
        return None, None


def ping() -> None:
    """Check that the broker answers.

    Raises:
        ServiceUnreachable: it does not answer.
    """
    try:
        client().ping()
    except redis.RedisError as error:
        raise unreachable(error) from None


def server() -> dict[str, Any]:
    """Describe the broker's server as Redis's INFO does. Raises as `ping` does."""
    try:
        return dict(client().info())
    except redis.RedisError as error:
        raise unreachable(error) from None


def require_writable() -> None:
    """Write and remove a key of ours. Raises as `ping` does, also if a user or a replica may not write."""
    try:
        client().set(KEY_PREFIX + "written", "", ex=60)
        client().delete(KEY_PREFIX + "written")
    except redis.RedisError as error:
        raise unreachable(error) from None


def now() -> float:
    """Give the broker's time in seconds since the epoch. Raises as `ping` does."""
    try:
        return redis_transport.CLOCK.now(client())
    except redis.RedisError as error:
        raise unreachable(error) from None


def memory() -> str:
    """Identify the broker's data set; the identity changes when the server restarts or is flushed.

    Messages sent under another identity may be lost.
    """
    try:
        client().set(KEY_PREFIX + "memory", uuid.uuid4().hex, nx=True)
        stored = client().get(KEY_PREFIX + "memory")
        server: dict[str, Any] = client().info("server")
    except redis.RedisError as error:
        raise unreachable(error) from None
    return f"{server['run_id']}:{_text(stored)}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def unreachable(error: Exception) -> ServiceUnreachable:
    """Describe a failed broker operation, without the broker's password."""
    return ServiceUnreachable(broker_errors.sentence(error, settings.load().broker))
