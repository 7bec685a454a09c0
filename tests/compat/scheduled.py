"""A user's own module: the app of a stand, which the environment names, with a schedule."""

import os
from importlib import import_module

app = import_module(os.environ["COMPAT_APP"]).app

_key = os.environ["COMPAT_KEY"]

#: Every half second: a user's task, and an operation of ours with a callback.
app.conf.beat_schedule = {
    "tick": {"task": "compat.note", "schedule": 0.5, "args": (_key, "tick")},
    "mean": {
        "task": "analytics.basic_statistics",
        "schedule": 0.5,
        "args": ([1.0, 2.0, 6.0],),
        "options": {
            "link": app.signature(
                "compat.mean_of", link=[app.signature("compat.note_last", (_key,))]
            )
        },
    },
}
