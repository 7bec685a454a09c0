"""The `fusion` operations: call one to wait for its result, or `.submit` it for a job."""

from contract.fusion import *  # noqa: F403  # the declarations are the functions
