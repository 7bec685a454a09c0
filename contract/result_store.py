"""Where a job's state is stored: by one script, which lets the first end win and late workers not.

A stock client finds there what Celery would have stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import redis
from celery import states

from contract.deployment import Deployment
from contract.envelope import Delivery
from contract.events import field_of
from contract.replies import TELL

#: Size of an end that a broker without memory takes in any case, in bytes: most results and errors.
#: A larger one must be no larger than the message that its acknowledgement frees.
ROOM_BYTES: Final = 4096

#: Says whether the job whose result has a key has ended.
#:
#: The state stands in the first bytes of a meta in both encodings: in JSON, and in msgpack after
#: the byte or three that begin a map. Nothing is parsed.
HAS_ENDED: Final = r"""
local function has_ended(result)
  local head = redis.call('GETRANGE', result, 0, 31)
  local state = string.match(head, '^{"status": ?"(%u+)"')
    or string.match(head, '^[\128-\143]\166status[\160-\191](%u+)\166')
    or string.match(head, '^\222..\166status[\160-\191](%u+)\166')
  return state == 'SUCCESS' or state == 'FAILURE' or state == 'REVOKED'
end
"""

#: KEYS: result, set of who waits, event counts, what the job sent, inbox, idempotency key; the last
#: two may be any where ARGV says that there is none. ARGV: the meta; its life in ms, 0 for ever;
#: "1" for a job's end; the message's field of the inbox, "" for none; the job's id; the life of its
#: idempotency key from the end in ms, 0 for none; the counts' field for a refusal; what the keys of
#: clients' lists begin with; name of the submitter's, "" for none; bytes that fit where there is no
#: memory, "" where nobody asks.
_STORE: Final = (
    HAS_ENDED
    + TELL
    + """
local result, waiting, events, sent, inbox, once = unpack(KEYS)
local meta, life, is_end, tag = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local job, once_life, room = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[10])
local lists, submitter = ARGV[8], ARGV[9]

if tag ~= '' and redis.call('HEXISTS', inbox, tag) == 0 then
  redis.pcall('HINCRBY', events, ARGV[7], 1)
  return 'fenced'
end

local function begin_end_of_once()
  if not is_end or once_life == 0 then return false end
  if redis.call('GETRANGE', once, 0, #job) ~= job .. ' ' then return false end
  redis.call('PEXPIRE', once, once_life, 'LT')
  return true
end

if has_ended(result) then
  -- Whoever ended it may not have known its idempotency key: the revoke command has no message.
  if begin_end_of_once() then redis.call('PEXPIRE', result, once_life, 'GT') end
  if redis.call('GET', result) == meta then return 'stored' end
  return 'ended'
end

if room then
  if tag ~= '' then room = math.max(room, redis.call('HSTRLEN', inbox, tag)) end
  if #meta > room then return 'full' end
end

if begin_end_of_once() and life > 0 then life = math.max(life, once_life) end
if life > 0 then
  redis.call('SET', result, meta, 'PX', life)
else
  redis.call('SET', result, meta)
end
redis.call('PUBLISH', result, meta)
if is_end then
  redis.call('DEL', sent)
  if submitter ~= '' then tell(lists .. submitter, job, meta) end
  local others = redis.pcall('SMEMBERS', waiting)
  for _, name in ipairs(others) do
    if name ~= submitter then tell(lists .. name, job, meta) end
  end
  if #others > 0 then redis.call('DEL', waiting) end
end
return 'stored'
"""
)

#: The same for a broker without memory, which takes no writes from a script that does not say this.
_STORE_WITHOUT_MEMORY: Final = f"#!lua flags=allow-oom\n{_STORE}"


class Outcome(Enum):
    """What became of a state that was to be stored."""

    #: It stands, or it is the very end that stood there already.
    STORED = b"stored"
    #: The job has ended before; its first end stands.
    ENDED = b"ended"
    #: The worker's lease ran out, and the job is another's.
    FENCED = b"fenced"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A state of a job on its way into the store."""

    job_id: str
    #: Celery's name of the state.
    state: str
    #: Celery's meta in either encoding; its first key is the status.
    meta: bytes | str
    #: Seconds that the state is kept; None for ever.
    life_seconds: float | None
    #: Where the worker's message lies; None where there is nothing to fence.
    delivery: Delivery | None = None
    #: Key of the idempotency key that the job was submitted under, "" for none, and its seconds.
    once_key: str = ""
    once_seconds: float = 0.0
    #: Name of the list on which the submitter waits, "" for none.
    reply_to: str = ""


class ResultStore:
    """The states of the jobs of a deployment, as workers write them."""

    def __init__(self, client: "redis.Redis", deployment: Deployment) -> None:
        """Store on the Redis that `client` talks to; it has no key prefix of its own."""
        self._deployment = deployment
        self._store = Script(client, _STORE)
        self._store_without_memory = Script(client, _STORE_WITHOUT_MEMORY)

    def store(self, entry: Entry) -> Outcome:
        """Store a state, publish it and, at the job's end, tell who waits.

        Raises redis-py's `OutOfMemoryError` where the broker has no memory, unless the state is an
        end that takes little: an end lets its worker acknowledge a message, which gives memory
        back, so that jobs go on ending and the broker recovers.
        """
        keys, arguments = self._call(entry)
        try:
            answer = self._store(keys, [*arguments, ""])
        except redis.exceptions.OutOfMemoryError:
            if entry.state not in states.READY_STATES:
                raise
            answer = self._store_without_memory(keys, [*arguments, ROOM_BYTES])
            if answer == b"full":
                raise
        return Outcome(answer)

    def store_many(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Store the ends of many jobs in one round trip; see `store`."""
        if not entries:
            return []
        calls = [self._call(entry) for entry in entries]
        answers = self._store.many([(keys, [*arguments, ""]) for keys, arguments in calls])
        return [
            # One that was refused is tried by itself, where its error has a place.
            self.store(entry) if isinstance(answer, Exception) else Outcome(answer)
            for entry, answer in zip(entries, answers, strict=True)
        ]

    def _call(self, entry: Entry) -> tuple[list[str], list[Any]]:
        """Return the keys and all arguments but the last that the script takes for an entry."""
        key = self._deployment.result_key(entry.job_id)
        delivery = entry.delivery
        is_end = entry.state in states.READY_STATES
        keys = [
            key,
            self._deployment.waiting_key(entry.job_id),
            self._deployment.events_key,
            self._deployment.sent_key(entry.job_id),
            delivery.inbox if delivery else key,
            entry.once_key or key,
        ]
        arguments: list[Any] = [
            entry.meta,
            _milliseconds(entry.life_seconds),
            "1" if is_end else "0",
            delivery.tag if delivery else "",
            entry.job_id,
            max(1, _milliseconds(entry.once_seconds)) if entry.once_key else 0,
            _REFUSED_END if is_end else _REFUSED_PROGRESS,
            self._deployment.replies_key(""),
            entry.reply_to,
        ]
        return keys, arguments


class Script:
    """A script on the server, sent by its digest, or whole to a server that does not know it."""

    def __init__(self, client: "redis.Redis", source: str) -> None:
        """Prepare a script; nothing is sent."""
        self._client = client
        self._source = source
        self._sha = client.register_script(source).sha

    def __call__(self, keys: list[str], arguments: list[Any]) -> Any:
        """Run the script and return its answer."""
        try:
            return self._client.evalsha(self._sha, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            # Whole and in one step: a failover after a SCRIPT LOAD would lose it again.
            return self._client.eval(self._source, len(keys), *keys, *arguments)

    def many(self, calls: Sequence[tuple[list[str], list[Any]]]) -> list[Any]:
        """Run the script on many arguments in one round trip; an error takes its answer's place.

        The first call carries the source: a server without the script has it for the others.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for keys, arguments in calls[:1]:
                pipe.eval(self._source, len(keys), *keys, *arguments)
            for keys, arguments in calls[1:]:
                pipe.evalsha(self._sha, len(keys), *keys, *arguments)
            answers: list[Any] = pipe.execute(raise_on_error=False)
        return answers


_REFUSED_END: Final = field_of("fenced", what="result")
_REFUSED_PROGRESS: Final = field_of("fenced", what="progress")


def _milliseconds(seconds: float | None) -> int:
    return 0 if not seconds else max(1, round(seconds * 1000))
