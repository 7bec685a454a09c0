"""The catalogue: every scenario of the suite, in the order of the sheet."""

from typing import Final

from tests.chaos import faults
from tests.chaos.backlog import Backlog
from tests.chaos.cancels import Cancels
from tests.chaos.duplicates import Duplicates
from tests.chaos.handback import HandBack
from tests.chaos.messages import BadMessages
from tests.chaos.once import OnceOnly
from tests.chaos.poison import Poison
from tests.chaos.scenario import Scenario, UnderLoad

#: What everyday life may bring, one after another.
_STORM: Final = (
    faults.KillParent(),
    faults.KillServer(),
    faults.KillChild(),
    faults.CutNetwork(),
    faults.KillClients(),
    faults.PauseClients(),
    faults.FillMemory(),
    faults.TerminateWorker(),
)

SCENARIOS: Final[tuple[Scenario, ...]] = (
    UnderLoad(
        name="parent", fault=faults.KillParent(), runs=(100, 4), jobs=(50_000, 800), rate=110
    ),
    UnderLoad(name="child", fault=faults.KillChild(), runs=(100, 6), jobs=(20_000, 800), rate=110),
    UnderLoad(
        name="server",
        fault=faults.KillServer(),
        runs=(20, 2),
        jobs=(16_000, 800),
        rate=110,
    ),
    UnderLoad(
        name="network",
        fault=faults.CutNetwork(),
        runs=(10, 2),
        jobs=(14_000, 800),
        rate=110,
        within=60.0,
    ),
    UnderLoad(
        name="storm",
        fault=faults.InTurn(*_STORM),
        runs=(16, 8),
        jobs=(5_000, 500),
        within=60.0,
        in_short=True,
    ),
    UnderLoad(
        name="everysec",
        fault=faults.KillServer(),
        runs=(5, 1),
        jobs=(3_000, 300),
        fsync="everysec",
        called="kill -9 of Redis and restart, with appendfsync everysec",
    ),
    UnderLoad(
        name="clients",
        fault=faults.KillClients(),
        runs=(20, 3),
        jobs=(3_000, 300),
    ),
    UnderLoad(
        name="pause",
        fault=faults.PauseClients(),
        runs=(5, 1),
        jobs=(4_000, 300),
    ),
    UnderLoad(
        name="memory",
        fault=faults.FillMemory(),
        runs=(8, 1),
        jobs=(4_000, 300),
    ),
    UnderLoad(
        name="suspend",
        fault=faults.SuspendWorker(seconds=60),
        short_fault=faults.SuspendWorker(seconds=12),
        runs=(2, 1),
        jobs=(5_000, 300),
        in_short=True,
    ),
    UnderLoad(name="term", fault=faults.TerminateWorker(), runs=(10, 2), jobs=(5_000, 300)),
    UnderLoad(
        name="clocks",
        fault=faults.KillParent(),
        runs=(6, 1),
        jobs=(3_000, 300),
        called="workers' clocks an hour ahead and behind, kill -9 of parents",
        clocks={"w1": -1, "w2": 1},
    ),
    Duplicates(),
    Poison(),
    BadMessages(),
    Cancels(),
    OnceOnly(),
    HandBack(),
    Backlog(),
    UnderLoad(
        name="stock",
        fault=faults.KillParent(),
        runs=(50, 3),
        jobs=(15_000, 500),
        side="stock",
        called="kill -9 of a worker's parent, stock Celery and transport",
    ),
)
