"""The worker side: `celery -A workers worker` runs every operation of every family."""

import os

# A worker is as many processes as there are cores; a BLAS that starts a thread per core in each of
# them gains nothing and loses the same bits on any host. It reads this when NumPy is first loaded.
for _threads in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

from workers.app import app  # noqa: E402  # after the settings that NumPy reads

__all__ = ["app"]
