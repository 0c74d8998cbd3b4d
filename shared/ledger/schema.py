"""The ledger's tables.

    items: ("round1", 41, "p17#2", "leased", attempt 1, fence 2, "host:812:9f", lease_until 1795340412.5, ...)

Times are seconds since the epoch, UTC, by the ledger's own clock. `runs` (runs, items, entries) and `claims`
(work on items) describe the life cycle of the rows. A change here needs a new file in `migrations.versions`.
"""

import enum

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    or_,
)

metadata = MetaData()


class State(enum.StrEnum):
    """The state of an item: pending -> leased -> done, dead or cancelled, or back to pending."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


OPEN = (State.PENDING, State.LEASED)


class Control(enum.StrEnum):
    """What a person has decided about a run; `DELETING`: its rows are being deleted."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    DELETING = "deleting"


# Programs older than Alembic find the schema's version here and refuse a newer ledger, so it keeps its name.
facts = Table(
    "facts", metadata, Column("name", String, primary_key=True), Column("value", Text, nullable=False)
)

locks = Table(
    "locks",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("until", Float, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("examples", String),
    Column("options", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("control", String, nullable=False, server_default=Control.ACTIVE),
    # Runs of a higher priority come first.
    Column("priority", Integer, nullable=False, server_default="0"),
    # When all of its questions have an answer, from the votes that there are.
    Column("deadline", Float),
    # When the texts of its votes were dropped.
    Column("texts_dropped_at", Float),
)
SINCE_10 = ("control", "priority", "deadline", "texts_dropped_at")
SAMPLING_ENDS = 10.0  # seconds before a deadline, so that the answers can be written


def is_active(now: float | ColumnElement[float]) -> ColumnElement[bool]:
    """Select the runs whose items may be worked on."""
    ends = runs.c.deadline - SAMPLING_ENDS
    return and_(runs.c.control == Control.ACTIVE, or_(runs.c.deadline.is_(None), ends > now))


entries = Table(
    "entries",
    metadata,
    Column("run", String, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(["run"], ["runs.name"]),
)

# The rows of the input file behind entries, as JSON; see `shared.source_rows`. An entry without a row here is
# its own line of the file.
source_rows = Table(
    "source_rows",
    metadata,
    Column("run", String, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    ForeignKeyConstraint(["run"], ["runs.name"]),
)

items = Table(
    "items",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("key", String, nullable=False),
    Column("entry", Integer, nullable=False),
    Column("question", Integer, nullable=False),
    Column("state", String, nullable=False, default=State.PENDING),
    # Rounds of work that began and were not lost. The fence counts all claims; it identifies late writers.
    Column("attempt", Integer, nullable=False, default=0),
    Column("fence", Integer, nullable=False, default=0),
    Column("losses", Integer, nullable=False, default=0),
    Column("holder", String),
    Column("lease_until", Float),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("sent_at", Float),
    Column("reason", Text),
    Column("settled_at", Float),
    ForeignKeyConstraint(["run"], ["runs.name"]),
    Index("items_by_key", "run", "key"),
    Index("items_by_state", "state", "lease_until"),
    Index("items_by_run_state", "run", "state", "attempt"),
)

# Pending items in the reconcile loop's order: items without a message first, then items that are due. The
# condition avoids the state column, whose own indexes would be preferred, and would scan all pending items.
PENDING = and_(items.c.holder.is_(None), items.c.settled_at.is_(None))
CLAIMED_BEFORE = and_(PENDING, items.c.fence > items.c.attempt)
for _name, _columns, _where in (
    ("items_pending", (items.c.run, items.c.sent_at, items.c.not_before, items.c.number), PENDING),
    ("items_claimed_before", (items.c.run, items.c.number), CLAIMED_BEFORE),
):
    Index(_name, *_columns, sqlite_where=_where, postgresql_where=_where)

# The worker processes that have claimed items and have not shut down. ``place`` names the kernel and the pid
# namespace of ``pid``; ``started`` is the process's start, in clock ticks. ``session`` is the key of the lock
# that the worker's PostgreSQL session holds.
workers = Table(
    "workers",
    metadata,
    Column("name", String, primary_key=True),
    Column("lease_until", Float, nullable=False),
    Column("place", String),
    Column("pid", Integer),
    Column("started", BigInteger),
    Column("session", Integer),
    # The names of the queues that it consumes; NULL: unknown, an older version.
    Column("queues", JSON),
)


class Death(enum.StrEnum):
    """What else was in play when the work on an item died."""

    ALONE = "alone"
    TOGETHER = "together"


# The claims whose work has begun: only these can have caused a death. ``death``: a `Death`, if the work died.
begun_claims = Table(
    "begun_claims",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("fence", Integer, primary_key=True, autoincrement=False),
    Column("begun_at", Float, nullable=False),
    Column("death", String),
)

# The absolute paths of a run's input files, which no output may overwrite.
inputs = Table(
    "inputs",
    metadata,
    Column("run", String, primary_key=True),
    Column("path", String, primary_key=True),
    ForeignKeyConstraint(["run"], ["runs.name"]),
)

attempts = Table(
    "attempts",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("fence", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", String, nullable=False),
    Column("claimed_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("outcome", Text),
    # Votes that were reserved for the claim, in a run with a vote budget.
    Column("reserved", Integer),
)

# Runs with a vote budget: their questions, those that have begun, and the votes reserved for all claims.
vote_spending = Table(
    "vote_spending",
    metadata,
    Column("run", String, primary_key=True),
    Column("questions", Integer, nullable=False),
    Column("begun", Integer, nullable=False),
    Column("reserved", Integer, nullable=False),
    ForeignKeyConstraint(["run"], ["runs.name"]),
)

votes = Table(
    "votes",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("letter", String),
    Column("score", Float),
    Column("accepted", Boolean, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("scorer", String),
    # The finish reason ("stop", "length"), and the tokens' mean log-probability (nats, at temperature 1).
    Column("finish_reason", String),
    Column("mean_logprob", Float),
    # What the model thought before the text, and how the letter was got: "read" in the text, or "forced".
    Column("thinking", Text),
    Column("letter_source", String),
    # What the vote is (`shared.voices`). Of a program: how it ended, what it printed, and its error. Of one
    # that was asked for again: the first text, and how that ended.
    Column("voice", String, nullable=False, server_default="reasoning"),
    Column("outcome", String),
    Column("output", Text),
    Column("detail", Text),
    Column("first_text", Text),
    Column("first_outcome", Text),
)

# The finished votes of unfinished rounds, of runs with a deadline: a `VoteRecord` with its weight, and its
# `RoundRecord`.
early_votes = Table(
    "early_votes",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("fence", Integer, primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("vote", JSON, nullable=False),
    Column("scorer", String),
    Column("sampled", JSON, nullable=False),
)

# The sources of a round's votes, by voice. Unknown values are NULL; rounds before revision 3 have no row.
rounds = Table(
    "rounds",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("voice", String, primary_key=True),
    Column("generator", String),
    Column("adapter", String),
    # The prompt's SHA-256, its length in tokens, and the positions of the examples that it shows.
    Column("prompt", String, nullable=False),
    Column("prompt_tokens", Integer),
    Column("examples", JSON, nullable=False),
    Column("seed", BigInteger),
    Column("sampled_at", Float, nullable=False),
    Column("seconds", Float),
    # "chat" or "completion"; NULL: an older version, which had completions only.
    Column("style", String),
    # Of a round that was stopped early: how many of its votes were never finished, and the tokens of those
    # that were aborted. Such votes have no row in `votes`. NULL: the round is whole.
    Column("unfinished", Integer),
    Column("aborted_tokens", Integer),
)

# ``name`` is a digest of the rest. ``weights``: the hub's revision, or a digest of the files.
generators = Table(
    "generators",
    metadata,
    Column("name", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("weights", String, nullable=False),
    Column("engine", String, nullable=False),
)

# The newest sampling progress of each worker and run, updated every few seconds.
worker_progress = Table(
    "worker_progress",
    metadata,
    Column("worker", String, primary_key=True),
    Column("run", String, primary_key=True),
    # Votes and tokens that the engine has generated for the run since the worker started.
    Column("votes", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),
    # Of the questions in play: finished votes, unfinished votes, those of the latter without a token yet, and
    # the tokens of the others.
    Column("votes_in_play", Integer, nullable=False),
    Column("votes_under_way", Integer, nullable=False),
    Column("votes_not_begun", Integer, nullable=False),
    Column("tokens_under_way", Integer, nullable=False),
    Column("tokens_per_second", Float, nullable=False),
    Column("recorded_at", Float, nullable=False),
    Index("worker_progress_by_run", "run"),
)

answers = Table(
    "answers",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("letter", String, nullable=False),
    Column("how", String, nullable=False),
    Column("support", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("answered_at", Float, nullable=False),
)

results = Table(
    "results",
    metadata,
    Column("run", String, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("value", JSON, nullable=False),
)

examples = Table(
    "examples",
    metadata,
    Column("digest", String, primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("problem", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("options", JSON, nullable=False),
    Column("reasoning", Text, nullable=False),
    Column("answer", String, nullable=False),
    Column("program", Text, nullable=False, server_default=""),
)

# Prompt files that runs were enqueued with; ``digest`` is the SHA-256 of ``text``.
prompts = Table(
    "prompts",
    metadata,
    Column("digest", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("text", Text, nullable=False),
)

# Trainings and their models

# Per-step training metrics: loss, learning rate, metrics of the held-out part.
training_log = Table(
    "training_log",
    metadata,
    Column("run", String, primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("recorded_at", Float, nullable=False),
    Column("total_steps", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("run", String, nullable=False),
    # Its provenance: weights, description and digest of the data, options, the code's version.
    Column("base", String, nullable=False),
    Column("source", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("options", JSON, nullable=False),
    Column("code", String, nullable=False),
    Column("metrics", JSON, nullable=False),
    # Scorers only: how to use the scores.
    Column("use", String),
    Column("threshold", Float),
    Column("created_at", Float, nullable=False),
)

# Digests of a model's training problems: results on these do not measure the model.
model_problems = Table(
    "model_problems",
    metadata,
    Column("model", String, primary_key=True),
    Column("problem", String, primary_key=True),
)

# The history of models in use; the last row of a kind is the current one. A NULL model means none.
promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("kind", String, nullable=False),
    Column("model", String),
    Column("reason", Text, nullable=False),
    Column("promoted_at", Float, nullable=False),
)

# Calls to outside services

calls = Table(
    "calls",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run", String, nullable=False),
    # The item of the call; NULL for a call that serves several items of a run.
    Column("number", Integer),
    Column("step", String, nullable=False),
    Column("provider", String, nullable=False),
    Column("model", String, nullable=False),
    Column("begun_at", Float, nullable=False),
    Column("ended_at", Float),
    # NULL: in progress, or its worker died; it may have been charged, so its estimated cost remains.
    Column("outcome", String),
    Column("detail", Text),
    Column("reply", Text),
    Column("input_tokens", Integer, nullable=False, default=0),
    Column("output_tokens", Integer, nullable=False, default=0),
    Column("characters", Integer, nullable=False, default=0),
    Column("cost", Float, nullable=False),
    Index("calls_by_item", "run", "number", "step"),
)

spending = Table(
    "spending",
    metadata,
    Column("run", String, primary_key=True),
    Column("budget", Float),
    Column("spent", Float, nullable=False, default=0.0),
)

# A service's observed usage: the largest shares of the calls' estimated maxima.
usage_seen = Table(
    "usage_seen",
    metadata,
    Column("service", String, primary_key=True),
    Column("replies", Integer, nullable=False, default=0),
    Column("input_share", Float, nullable=False, default=0.0),
    Column("output_share", Float, nullable=False, default=0.0),
    Column("characters_share", Float, nullable=False, default=0.0),
)

quotas = Table(
    "quotas",
    metadata,
    Column("service", String, primary_key=True),
    Column("day", String, primary_key=True),
    Column("used", Integer, nullable=False),
)

pauses = Table(
    "pauses",
    metadata,
    Column("service", String, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", Float, nullable=False),
    # NULL: until a person has fixed the cause.
    Column("until", Float),
)

# Paid texts, which are never requested again

reasonings = Table(
    "reasonings",
    metadata,
    Column("question", String, primary_key=True),
    Column("letter", String, primary_key=True),
    Column("label", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("model", String, primary_key=True),
    Column("prompt", String, primary_key=True),
    Column("text", Text, nullable=False),
)

translations = Table(
    "translations",
    metadata,
    Column("text", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("target", String, primary_key=True),
    Column("provider", String, primary_key=True),
    Column("model", String, primary_key=True),
    # NULL: ``holder`` is translating it until ``until``.
    Column("result", Text),
    Column("holder", String),
    Column("until", Float),
)
