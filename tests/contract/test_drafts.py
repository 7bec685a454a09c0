"""Drafts: byte for byte what Celery would have written to the server."""

import json
import threading
from typing import Any

import redis
from celery import Celery, signals

from contract import codec
from contract.drafts import Drafts
from gristmill.server import EmbeddedServer

MESSAGE: dict[str, Any] = {
    "kwargs": {"values": [1.0, 2.0], "word": "é"},
    "task_id": "7",
    "serializer": codec.SERIALIZER,
    "headers": {"gristmill": {"version": 1}},
    "argsrepr": "()",
    "kwargsrepr": "values=...",
}


def plain(entry: str | bytes) -> dict[str, Any]:
    """Return a message without what is random in each."""
    message: dict[str, Any] = json.loads(entry)
    for name in ("delivery_tag", "reply_to"):
        assert len(message["properties"].pop(name)) == 36
    return message


def test_a_draft_is_what_celery_sends(server: EmbeddedServer) -> None:
    app = Celery("drafts", broker=server.url, set_as_current=False)
    app.send_task("mcts.ucb1_selection", queue="drafts", **MESSAGE)
    with redis.Redis.from_url(server.url) as raw:
        sent = raw.lpop("drafts")
    assert isinstance(sent, bytes)
    draft = Drafts(app).draft("mcts.ucb1_selection", "drafts", **MESSAGE)
    assert plain(draft) == plain(sent)
    assert list(plain(draft)) == list(plain(sent))
    assert len(draft.encode()) == len(sent)
    app.close()


def test_a_draft_needs_no_server_and_tells_celerys_signals() -> None:
    app = Celery("drafts", broker="redis://127.0.0.1:1/0", set_as_current=False)

    def trace(headers: dict[str, Any], **_: Any) -> None:
        headers["traceparent"] = "00-1-2-01"

    signals.before_task_publish.connect(trace)
    try:
        draft = Drafts(app).draft("some", "drafts", task_id="7")
    finally:
        signals.before_task_publish.disconnect(trace)
    assert json.loads(draft)["headers"]["traceparent"] == "00-1-2-01"
    app.close()


def test_threads_may_share_drafts() -> None:
    app = Celery("drafts", set_as_current=False)
    drafts, found = Drafts(app), dict[str, str]()

    def write(start: int) -> None:
        for number in range(start, start + 50):
            found[str(number)] = drafts.draft("some", "drafts", task_id=str(number))

    threads = [threading.Thread(target=write, args=(50 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert all(json.loads(entry)["headers"]["id"] == number for number, entry in found.items())
    app.close()
