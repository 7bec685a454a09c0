"""Every Celery setting of the workers, in Celery's own spelling, each with its reason.

A setting is overridden by the environment: `CELERY_<SETTING>` in capitals, as JSON or as plain text
(`CELERY_WORKER_PREFETCH_MULTIPLIER=1`). Producers do not read this file.
"""

import json
import os
from typing import Any

from contract import codec
from contract.connections import ANSWER_SECONDS
from contract.deployment import Deployment
from contract.families import FAMILIES
from contract.results import SCHEME
from contract.transport import queue

_deployment = Deployment.from_environment()

# --- Where ---

broker_url = _deployment.broker_url
result_backend = f"{SCHEME}+{_deployment.backend_url}"

broker_transport_options: dict[str, Any] = {
    **_deployment.transport_options,
    # A dead peer is noticed by an answer that does not come, not when the kernel gives up after
    # hours. What is sent adds the time that its size needs.
    "health_check_interval": 10,
    "socket_keepalive": True,
    "socket_connect_timeout": 5,
    "socket_timeout": ANSWER_SECONDS,
}
result_backend_transport_options: dict[str, Any] = dict(_deployment.transport_options)
redis_socket_connect_timeout = 5
redis_socket_timeout = ANSWER_SECONDS
redis_backend_health_check_interval = 10

# A worker that starts before its broker waits for it.
broker_connection_retry_on_startup = True
broker_connection_max_retries = None

# --- What is read ---

# Job messages are ours or JSON; never pickle, which runs what it reads. `task_serializer` and the
# control channel stay Celery's JSON, so revoke, inspect and Flower do not depend on our codec.
accept_content = ["json", codec.SERIALIZER, codec.BATCH_SERIALIZER]
result_accept_content = ["json", codec.SERIALIZER]

# Celery's consumer with a handler that no message can end.
worker_consumer = "workers.intake:Consumer"

# --- Queues ---

# A queue per family, so that a family can have workers of its own (`-Q mcts`), and Celery's default
# queue, so that a stock client that names no queue is served too.
task_default_queue = "celery"
task_queues = [queue(name) for name in (*FAMILIES, "celery")]
task_routes = {f"{name}.*": {"queue": name, "routing_key": name} for name in FAMILIES}

# One message runs in a child and one waits: enough to hide a round trip, too few to hoard.
worker_prefetch_multiplier = 2

# --- Delivery ---

# A message is acknowledged when its result is stored: a worker that dies leaves the message behind.
task_acks_late = True
task_reject_on_worker_lost = True
# A failed job has its result, the failure; running it again would not change it.
task_acks_on_failure = True
task_acks_on_timeout = True

# A second delivery of a job that has ended does not run: our tasks see to it, whatever the end was,
# and tell the chord what a worker that died may not have told. Celery would forget the chord.
worker_deduplicate_successful_tasks = False

# Celery's pool of processes, which notices at once that one has died: its job runs elsewhere after
# some 0.3 s instead of up to 5. `--pool=prefork` means this one, too.
worker_pool = "workers.prefork:TaskPool"

# A job may take all the time that it needs, unless its message says otherwise. In seconds.
task_time_limit = None
task_soft_time_limit = None

# --- Results ---

# Long enough to fetch tomorrow what ran tonight; failures are kept for a week of questions.
result_expires = 24 * 3600
result_failure_expires = 7 * 24 * 3600
# STARTED costs a write a job; a job that lasts reports its progress, which says the same.
task_track_started = False

# --- Watching ---

# Flower and other monitors live on task events.
worker_send_task_events = True
# The event at the producer costs 0.3 ms a job and tells only what the worker's first event tells.
task_send_sent_event = False

# --- Stopping ---

# On a soft shutdown (SIGQUIT) running jobs get this many seconds before they are handed back; on a
# warm one (SIGTERM) they get all the time that they need.
worker_soft_shutdown_timeout = 10.0


def _override(name: str, text: str) -> None:
    try:
        globals()[name] = json.loads(text)
    except json.JSONDecodeError:
        globals()[name] = text


for _name in [name for name in globals() if not name.startswith("_") and name.islower()]:
    if (_text := os.environ.get(f"CELERY_{_name.upper()}")) is not None:
        _override(_name, _text)
