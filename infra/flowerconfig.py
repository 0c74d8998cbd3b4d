"""Flower's configuration file: every name below that is an option of Flower is set.

    python -m celery -A shared.broker:app flower --conf=infra/flowerconfig.py

Read-only: Flower then refuses (403) every call that changes something: shutting down, restarting, growing or
limiting workers, changing their queues, and applying, sending, revoking or aborting tasks. Without a login
its API answers nobody (401). Bound to loopback unless VOTEQUEUE_FLOWER_AUTH asks for a password.
"""

import os
import sys

from infra import programs
from shared import file_permissions
from shared import settings as environment
from shared.errors import UserError

# Flower also reads FLOWER_* variables, and this one opens its API to everyone.
os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)

try:
    _settings = environment.load()
    _address = programs.flower(_settings)
    _login = programs.flower_login(_settings)
except UserError as error:
    sys.exit(str(error))

address = _address.host
port = _address.port
basic_auth = [_login] if _login else []
read_only = True

# The ledger keeps the history; Flower's own state is saved only on request. It saves pickles, and runs what a
# changed file tells it to: nobody else may write there.
persistent = _settings.flower_db is not None
db = str(_settings.flower_db)
state_save_interval = 300_000  # milliseconds; it also saves when it ends
if _settings.flower_db is not None:
    file_permissions.restrict()
    file_permissions.make_folder(_settings.flower_db.parent)
max_tasks = _settings.flower_tasks
tasks_columns = "name,uuid,state,args,kwargs,result,received,started,runtime,worker"
