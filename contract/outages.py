"""What a broker's error means: that it will serve again later, or that waiting mends nothing."""

import re
from typing import Final

import redis
from kombu.exceptions import OperationalError
from redis import exceptions

#: Errors after which a broker may serve again, on a new connection if need be.
_PASSING: Final = (
    redis.ConnectionError,  # BusyLoadingError, while it reads its data, is one too
    redis.TimeoutError,
    OSError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,  # from a replica; before a failover it was the primary
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)

#: Errors that are about us. To redis-py some of them are connection errors.
_LASTING: Final = (
    redis.AuthenticationError,
    exceptions.AuthorizationError,
    exceptions.ExternalAuthProviderError,
)

#: What answers say for which redis-py has no class: a disk that is full, too few replicas, a script
#: that runs, a primary that has just become a replica. A pipeline's error begins with its command.
_PASSING_WORDS: Final = re.compile(r"(^|: )(MISCONF|NOREPLICAS|BUSY|UNBLOCKED|NOMASTERLINK) ")


def is_passing(error: BaseException | None) -> bool:
    """Say whether a broker that failed with `error` is expected to serve again later.

    Kombu wraps what befell it into an error of its own, which means what its cause does.
    """
    if isinstance(error, OperationalError):
        error = error.__cause__
    if isinstance(error, _LASTING):
        return False
    if isinstance(error, redis.ResponseError) and _PASSING_WORDS.search(str(error)):
        return True
    return isinstance(error, _PASSING)
