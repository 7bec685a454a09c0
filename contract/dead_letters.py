"""The dead letters of a deployment: what no worker could run, byte for byte, and why.

They are a Redis stream, bounded by number, bytes and age; the oldest letters make room.
"""

import builtins
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis

from contract.arrays import describe
from contract.batches import item_ids
from contract.deployment import Deployment
from contract.envelope import HEADER, Delivery, Envelope
from contract.errors import InvalidRequest
from contract.events import field_of

#: Bounds of the stream. It may not crowd out the queues: the bytes are a sixteenth of the gigabyte
#: that a server of ours has by default.
MAX_LETTERS: Final = 10_000
MAX_BYTES: Final = 2**26
MAX_AGE_SECONDS: Final = 14 * 24 * 3600

#: What is kept of an entry that is larger than all letters together may be, in bytes.
KEPT_OF_TOO_LARGE: Final = 2**20

#: Longest reason, in characters.
_REASON_CHARACTERS: Final = 2000

#: Letters that one round trip reads.
_PAGE: Final = 20

#: First bytes of a result, in either encoding, in which its state stands and nothing else.
_STATE_BYTES: Final = 24

#: KEYS: the stream, the counts of events and, to take the entry out of an inbox, that inbox and the
#: counts of entries. ARGV: the entry, or its field of the inbox; most letters, bytes, seconds;
#: bytes of an entry too large; the event to count; what is known of the entry, names and values.
#: Returns the letter's id; nothing for an entry that is not in the inbox: its worker has lost its
#: lease, and the entry is another's.
#:
#: Each letter holds how many bytes all letters up to it had ever, so the difference of two is what
#: the letters between them hold, and nothing is counted twice or forgotten when letters go.
#:
#: It may write to a server without memory: it takes no more than the bound, and what stays in the
#: inbox instead takes as much.
_ADD: Final = """#!lua flags=allow-oom
local dead, events, inbox, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local max_letters, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
local raw = ARGV[1]
if inbox then
  raw = redis.call('HGET', inbox, ARGV[1])
  if not raw then return false end
end

local function read(letter)
  local found = {}
  for i = 1, #letter[2], 2 do found[letter[2][i]] = letter[2][i + 1] end
  return tonumber(found['until']) or 0, tonumber(found['held']) or 0
end

local kept = raw
if #raw > max_bytes then kept = string.sub(raw, 1, tonumber(ARGV[5])) end
local held = #kept
for i = 7, #ARGV do held = held + #ARGV[i] end
local last = redis.call('XREVRANGE', dead, '+', '-', 'COUNT', 1)[1]
local total = held
if last then total = total + (read(last)) end

local id = redis.call('XADD', dead, 'MAXLEN', max_letters, '*', 'raw', kept, 'size', #raw,
  'held', held, 'until', string.format('%.0f', total), unpack(ARGV, 7))
redis.pcall('HINCRBY', events, ARGV[6], 1)
local now = redis.call('TIME')
redis.call('XTRIM', dead, 'MINID', string.format('%.0f', (now[1] - ARGV[4]) * 1000))
redis.call('EXPIRE', dead, ARGV[4])
while redis.call('XLEN', dead) > 1 do
  local first = redis.call('XRANGE', dead, '-', '+', 'COUNT', 1)[1]
  local upto, bytes = read(first)
  if total - upto + bytes <= max_bytes then break end
  redis.call('XDEL', dead, first[1])
end

if inbox then
  local entry = redis.sha1hex(raw)
  redis.call('HDEL', inbox, ARGV[1])
  redis.call('HDEL', counts, entry .. ':lost', entry .. ':returned')
end
return id
"""


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """An entry of a queue that no worker could run. All of it but `raw` is for people."""

    #: Its id in the stream; its first half is the time.
    id: str
    #: The entry as it came, byte for byte; the beginning of one that was too large.
    raw: bytes
    #: Size of the entry as it came, in bytes.
    size: int
    #: Why no worker could run it, in a sentence.
    reason: str
    #: Key of the queue that it came from, without the deployment's prefix; "" where not known.
    queue: str
    #: Id and task of the job; "" where the entry told none.
    job: str
    task: str
    #: The worker that gave it up.
    worker: str

    @property
    def died_at(self) -> float:
        """When it was given up, in seconds since 1970 by the broker's clock."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def is_whole(self) -> bool:
        """Whether the whole entry was kept."""
        return len(self.raw) == self.size


class DeadLetters:
    """The dead letters of a deployment, for workers that write them and people who read them."""

    def __init__(
        self,
        client: "redis.Redis",
        deployment: Deployment,
        *,
        max_letters: int = MAX_LETTERS,
        max_bytes: int = MAX_BYTES,
        max_age_seconds: int = MAX_AGE_SECONDS,
    ) -> None:
        """Look after the letters on the Redis that `client` talks to.

        `client` returns bytes and has no key prefix of its own, as kombu's have. A letter counts
        its entry and every text in it against `max_bytes`.
        """
        self._client = client
        self._deployment = deployment
        self._bounds = (max_letters, max_bytes, max_age_seconds, KEPT_OF_TOO_LARGE)
        self._max_age_seconds = max_age_seconds
        self._add = client.register_script(_ADD)

    @property
    def _key(self) -> str:
        return self._deployment.dead_key

    def add(
        self,
        raw: bytes,
        reason: str,
        *,
        kind: str = "no_message",
        queue: str = "",
        job: str = "",
        task: str = "",
        worker: str = "",
    ) -> str:
        """Keep an entry that is in nobody's hands, and return the letter's id.

        `kind` is what the event `dead_letter` is counted as.
        """
        about = self._about(kind, reason, queue, job, task, worker)
        keys = [self._key, self._deployment.events_key]
        return _text(self._add(keys=keys, args=[raw, *about]))

    def bury(
        self,
        delivery: Delivery,
        reason: str,
        *,
        kind: str = "no_message",
        queue: str = "",
        job: str = "",
        task: str = "",
        worker: str = "",
    ) -> str | None:
        """Move an entry from its worker's inbox to the letters and return the letter's id.

        Returns None where the worker holds the entry no longer: what becomes of it is up to whoever
        holds it now. In the same moment the entry is acknowledged and its counts are forgotten. The
        queue and the worker are those of its delivery, unless told otherwise.
        """
        queue = queue or delivery.queue.removeprefix(self._deployment.prefix)
        worker = worker or delivery.inbox.removeprefix(self._deployment.inbox_key(""))
        about = self._about(kind, reason, queue, job, task, worker)
        keys = [self._key, self._deployment.events_key]
        keys += [delivery.inbox, self._deployment.counts_key]
        letter_id = self._add(keys=keys, args=[delivery.tag, *about])
        return None if letter_id is None else _text(letter_id)

    def list(self, limit: int | None = None) -> Iterator[DeadLetter]:
        """Yield the letters, the newest first, at most `limit` of them."""
        newest, oldest = "+", self._oldest()
        while limit is None or limit > 0:
            page = _PAGE if limit is None else min(_PAGE, limit)
            found: Any = self._client.xrevrange(self._key, newest, oldest, count=page)
            for letter_id, fields in found:
                yield _read(letter_id, fields)
            if len(found) < page:
                return
            newest = f"({_text(found[-1][0])}"
            limit = None if limit is None else limit - page

    def get(self, letter_id: str) -> DeadLetter:
        """Return a letter; raises `InvalidRequest` where there is none of that id."""
        return self._get(self._client, letter_id)

    def replay(self, letter_id: str, queue: str | None = None) -> DeadLetter:
        """Put a letter's entry back at the end of its queue, as it came, and return the letter.

        `queue` is another queue for it, without the deployment's prefix. The job's failed result,
        those of a batch's items, and what was counted of the entry, are forgotten in the same
        moment. Raises `InvalidRequest` for a letter that is not there, that is not whole, or that
        came from no known queue.
        """

        def move(pipe: Any) -> DeadLetter:
            letter = self._get(pipe, letter_id)
            target = letter.queue if queue is None else queue
            if not letter.is_whole:
                was = f"the first {len(letter.raw)} bytes of {letter.size}"
                raise InvalidRequest(f"letter {letter_id}: {was}, expected a whole entry")
            if not target:
                raise InvalidRequest("queue: not known, expected the name of one")
            forgotten = [letter.job, *self._failed_items(letter)] if letter.job else []
            pipe.multi()
            pipe.xdel(self._key, letter_id)
            for job in forgotten:
                pipe.delete(self._deployment.result_key(job))
            pipe.hdel(self._deployment.counts_key, *_counts_of(letter.raw))
            pipe.lpush(f"{self._deployment.prefix}{target}", letter.raw)
            return letter

        # Watched, so that two who replay a letter at once enqueue it once.
        transaction: Any = self._client.transaction  # typed as if the callable returned nothing
        letter: DeadLetter = transaction(move, self._key, value_from_callable=True)
        return letter

    def purge(self, *letter_ids: str, older_than_seconds: float = 0.0) -> int:
        """Drop these letters, or else all that are older, and return how many there were."""
        if letter_ids:
            try:
                return int(self._client.xdel(self._key, *letter_ids))
            except redis.ResponseError as error:
                raise InvalidRequest(f"letter: {error}, expected ids of letters") from None
        latest = max(0, int((self._now() - older_than_seconds) * 1000))
        # One beyond, so that a letter of this very moment is not spared.
        return int(self._client.xtrim(self._key, minid=latest + 1, approximate=False))

    def size(self) -> int:
        """Return how many letters there are."""
        return int(self._client.xlen(self._key))

    def _failed_items(self, letter: DeadLetter) -> builtins.list[str]:
        """Return the items of a letter's batch that failed; the others keep their ends."""
        ids = item_ids(letter.job, _num_items(letter.raw))
        with self._client.pipeline(transaction=False) as pipe:
            for job in ids:
                pipe.getrange(self._deployment.result_key(job), 0, _STATE_BYTES - 1)
            heads = pipe.execute()
        return [job for job, head in zip(ids, heads, strict=True) if b"FAILURE" in head]

    def _about(self, kind: str, *told: str) -> builtins.list[Any]:
        return [*self._bounds, field_of("dead_letter", reason=kind), *_told(*told)]

    def _get(self, client: Any, letter_id: str) -> DeadLetter:
        try:
            found = client.xrange(self._key, letter_id, letter_id)
        except redis.ResponseError:  # an id that none has
            found = []
        if len(found) != 1:
            raise InvalidRequest(f"letter: {describe(letter_id)}, expected the id of a dead letter")
        return _read(*found[0])

    def _oldest(self) -> str:
        """Return the least id that a letter may have: older ones go when the next one comes."""
        return str(max(0, int((self._now() - self._max_age_seconds) * 1000)))

    def _now(self) -> float:
        seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6


def _told(reason: str, queue: str, job: str, task: str, worker: str) -> builtins.list[bytes | str]:
    said = {
        "reason": reason[:_REASON_CHARACTERS],
        "queue": queue,
        "job": job,
        "task": task,
        "worker": worker,
    }
    # Anybody's texts: a lone surrogate has no UTF-8.
    return [part.encode(errors="replace") for pair in said.items() for part in pair]


def _read(letter_id: Any, fields: Mapping[bytes, bytes]) -> DeadLetter:
    raw = fields.get(b"raw", b"")
    words = ("reason", "queue", "job", "task", "worker")
    return DeadLetter(
        id=_text(letter_id),
        raw=raw,
        size=int(fields.get(b"size", len(raw))),
        **{word: _text(fields.get(word.encode(), b"")) for word in words},
    )


def _num_items(raw: bytes) -> int:
    """Return how many jobs an entry holds beside itself; 0 for what is no batch's message."""
    try:
        return Envelope.count_items(json.loads(raw)["headers"][HEADER])
    except (ValueError, TypeError, LookupError, RecursionError):
        return 0


def _counts_of(raw: bytes) -> tuple[str, str]:
    entry = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
    return f"{entry}:lost", f"{entry}:returned"


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
