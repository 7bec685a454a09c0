"""The worker side: `celery -A workers worker` runs every operation of every family."""

from workers.app import app

__all__ = ["app"]
