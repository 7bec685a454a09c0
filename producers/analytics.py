"""The `analytics` operations as functions: call one to wait for its result, `.submit` it for a job."""

from contract.analytics import *  # noqa: F403  # the declarations are the functions
