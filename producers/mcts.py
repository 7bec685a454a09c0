"""The `mcts` operations: call one to wait for its result, or `.submit` it for a job."""

from contract.mcts import *  # noqa: F403  # the declarations are the functions
