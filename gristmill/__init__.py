"""Gristmill for people: command line, embedded server, demo, doctor and plots."""

__version__ = "0.1.0"
