"""Measures the memory that one job takes over an idle process, by the system's high-water mark."""

from pathlib import Path
from typing import Any

from benchmarks.case import Prepare

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")

#: The kernel counts in pages of 4 KiB: less than one cannot be told from none.
RESOLUTION_MEGABYTES = 0.004


def peak_megabytes(prepare: Prepare, small: tuple[Any, ...], data: tuple[Any, ...]) -> float:
    """Return by how many MB the job on `data` lifts the memory above that of an idle process.

    Idle is after imports, after the data is made and after one job on `small` data, so that what a
    library loads or starts once does not count. Needs Linux.
    """
    prepare(*small)()
    call = prepare(*data)
    # 5 resets the high-water mark to what is resident now: proc(5), clear_refs.
    _CLEAR_REFS.write_text("5")
    before = _kilobytes("VmHWM")
    answer = call()
    peak = _kilobytes("VmHWM")
    del answer
    return max((peak - before) * 1024 / 1e6, RESOLUTION_MEGABYTES)


def _kilobytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])
