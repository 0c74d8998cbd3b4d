"""Flower's configuration file: every name below that is an option of Flower is set.

    python -m celery -A shared.broker:app flower --conf=infra/flowerconfig.py

Read-only: Flower then refuses (403) every call that changes something: shutting down, restarting, growing or
limiting workers, changing their queues, and applying, sending, revoking or aborting tasks. Without a login
its API answers nobody (401); with one, only `/healthcheck` answers everybody. Bound to loopback unless
VOTEQUEUE_FLOWER_AUTH asks for a password.
"""

import os
import sys

from flower.views.monitor import Metrics
from tornado.web import authenticated

from infra import programs
from shared import broker, file_permissions
from shared import settings as environment
from shared.errors import UserError

# Flower also reads FLOWER_* variables, and this one opens its API to everyone.
os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)

try:
    _settings = environment.load()
    _address = programs.flower(_settings)
    _login = programs.flower_login(_settings)
    if _settings.flower_db is not None:
        file_permissions.restrict()
        file_permissions.make_folder(_settings.flower_db.parent)
except UserError as error:
    sys.exit(str(error))
except OSError as error:
    sys.exit(f"VOTEQUEUE_FLOWER_DB: its folder {error.filename} cannot be made: {error.strerror}")

address = _address.host
port = _address.port
basic_auth = [_login] if _login else []
read_only = True
Metrics.get = authenticated(Metrics.get)

# Flower's page of queues takes TLS options from here only, not from the broker's URL.
_client = broker.client().connection_pool.connection_kwargs
broker.app.conf.broker_use_ssl = {name: _client[name] for name in _client if name.startswith("ssl_")}

# The ledger keeps the history; Flower's own state is saved only on request. It saves pickles, and runs what a
# changed file tells it to: nobody else may write there.
persistent = _settings.flower_db is not None
db = str(_settings.flower_db)
state_save_interval = 300_000  # milliseconds; it also saves when it ends
max_tasks = _settings.flower_tasks
tasks_columns = "name,uuid,state,args,kwargs,result,received,started,runtime,worker"
