"""Benchmarks: every operation is verified, then timed beside the best that others offer.

A family's file declares its cases and nothing else; `python -m benchmarks` runs them. `make bench`
does that in an environment that has the peers.
"""
