"""The `mcts` operations as functions: call one to wait for its result, `.submit` it for a job."""

from contract.mcts import *  # noqa: F403  # the declarations are the functions
