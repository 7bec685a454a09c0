"""Flower's settings, in Flower's own spelling, each with its reason.

Flower reads this file where it starts, or wherever `--conf` says. The command line goes before it;
of the variables `FLOWER_...`, those named here do.
"""

import os
import sys
from typing import Any

from tornado.options import options

# What is asked of a page of jobs first: which, on what, with what end.
tasks_columns = os.environ.get(
    "FLOWER_TASKS_COLUMNS", "name,state,kwargs,result,uuid,runtime,received,worker"
)

# Each job kept costs some 4 kB of memory; Flower's default of 100,000 would be 400 MB.
max_tasks = int(os.environ.get("FLOWER_MAX_TASKS", "20000"))

# Whoever reaches Flower can stop jobs and workers, so there is none without a login.
if not (options.basic_auth or options.auth):
    sys.exit("flower: no login, expected FLOWER_BASIC_AUTH=user:password (or --auth)")


def format_task(task: Any) -> Any:
    """Return a task as the pages show it: all arguments in one column, a failure as its result."""
    arguments = [text for text in (task.args, task.kwargs) if text not in (None, "", "()", "{}")]
    task.args, task.kwargs = "", " ".join(arguments)
    task.name = task.name or "unknown"  # no worker here knows it, and what failed it did not say
    # A failure may repeat what a client sent, such as a task's name of any length.
    task.exception = _cut(task.exception)
    if task.exception and task.state != "SUCCESS":  # the result would be its last progress
        task.result = task.exception
    return task


def _cut(text: Any) -> Any:
    """Return a text of at most 600 characters, enough for our longest errors."""
    return f"{text[:597]}..." if isinstance(text, str) and len(text) > 600 else text
