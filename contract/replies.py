"""Replies: what a worker puts into a client's list when one of its jobs has ended."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from contract.errors import MessageError

#: Size of a stored end that a reply carries whole, in bytes. A larger one is fetched by who waits.
CARRIED_BYTES: Final = 1024

#: Replies that a list keeps, the newest ones: a client that reads none costs Redis no more. One
#: that has lost some finds the results themselves.
MAX_REPLIES: Final = 4096

#: Seconds that a list outlives its last reply.
LIST_SECONDS: Final = 60

#: Seconds that a word of somebody who waits for a job counts; it is given again meanwhile.
WAITING_SECONDS: Final = 60

#: Names of lists are no longer, in characters; each ended job's worker reads one.
MAX_NAME: Final = 128


@dataclass(frozen=True)
class Reply:
    """Tells that a job has ended."""

    job_id: str
    #: The stored end in either encoding; None where it is too large to be carried.
    meta: bytes | None

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Reply":
        """Read a reply: the size of the id in bytes, a blank, the id, the end."""
        size, _, rest = raw.partition(b" ")
        try:
            end = int(size)
            job_id = rest[:end].decode()
        except ValueError:
            raise MessageError("reply: no size of an id, expected one and a blank") from None
        return cls(job_id, rest[end:] or None)


def readable(raws: Iterable[bytes]) -> Iterator[Reply]:
    """Yield the replies among `raws`; what is none tells nobody anything, and is looked up."""
    for raw in raws:
        with contextlib.suppress(MessageError):
            yield Reply.from_bytes(raw)


#: Lua: tells a list that `job` has ended as `meta`. A key of another type is left alone.
TELL: Final = f"""
local function tell(list, job, meta)
  local reply = string.format('%d ', #job) .. job
  if #meta <= {CARRIED_BYTES} then reply = reply .. meta end
  local length = redis.pcall('RPUSH', list, reply)
  if type(length) == 'number' then
    if length > {MAX_REPLIES} then redis.call('LTRIM', list, -{MAX_REPLIES}, -1) end
    redis.call('EXPIRE', list, {LIST_SECONDS})
  end
end
"""
