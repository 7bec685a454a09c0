"""The chapter of `optimization`: learn month by month which rule of thumb to trust for the Sun.

Each arm is a rule that forecasts next month's sunspot number from the months before. It pays 1 when
its forecast is within ten of what came, else 0. These outcomes are replayed in the order of
history: a policy sees only what the rule that it trusted paid.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.optimization import multi_armed_bandit
from gristmill.demo import pictures
from gristmill.demo.chapter import Chapter, Picture, Size, Table
from gristmill.demo.mill import Mill
from gristmill.demo.series import Data, sources

OPERATION: Final = multi_armed_bandit
QUESTION: Final = (
    "Which rule of thumb forecasts the Sun's next month, learned by trusting one each month?"
)

#: How near a forecast must come to pay, in sunspots.
TOLERANCE: Final = 10.0

#: Mean length of the solar cycle, in months: eleven years.
CYCLE: Final = 132

#: Each policy of the replay: its label and what it adds to the request. The last is no policy but
#: the yardstick of one that learns nothing.
POLICIES: Final[dict[str, dict[str, Any]]] = {
    "ucb1": {"policy": "ucb1"},
    "thompson": {"policy": "thompson"},
    "epsilon_greedy": {"policy": "epsilon_greedy"},
    "softmax": {"policy": "softmax"},
    "no learning": {"policy": "epsilon_greedy", "epsilon": 1.0},
}


@dataclass(frozen=True)
class Outcomes:
    """What each rule would have paid in each month."""

    #: The rules.
    rules: tuple[str, ...]
    #: The month of each row, [t].
    times: NDArray[np.datetime64]
    #: 1 where the rule's forecast came near enough, else 0, [t, k].
    paid: NDArray[np.float64]

    @property
    def best(self) -> int:
        """The rule that pays most over all months: known only afterwards."""
        return int(np.argmax(self.paid.mean(axis=0)))


@dataclass(frozen=True)
class Replay:
    """All replays of one policy."""

    #: Label of the policy.
    name: str
    #: Regret against the best rule, added up month by month, [r, t].
    regret: NDArray[np.float64]
    #: Share of the months in which the trusted rule paid, [r].
    hits: NDArray[np.float64]
    #: Share of the months in which each rule was trusted, [k].
    trust: NDArray[np.float64]


def tell(mill: Mill, data: Data, size: Size) -> Chapter:
    """Replay all policies with several seeds each."""
    outcomes = forecasts(data.sunspots.times, data.sunspots.values)
    num_rules = len(outcomes.rules)
    start = {"counts": np.zeros(num_rules, np.int64), "reward_sums": np.zeros(num_rules)}
    # UCB1 draws no random numbers: every seed would give the same replay.
    runs = [
        (name, seed) for name in POLICIES for seed in range(1 if name == "ucb1" else size.num_seeds)
    ]
    requests = [
        {**start, "outcomes": outcomes.paid, "seed": seed, **POLICIES[name]} for name, seed in runs
    ]
    results = mill.grind(multi_armed_bandit, requests, "replays of history")
    replays = []
    for name in POLICIES:
        mine = [result for (label, _), result in zip(runs, results, strict=True) if label == name]
        rewards = np.array([result.rewards for result in mine])
        regret = np.cumsum(outcomes.paid[:, outcomes.best] - rewards, axis=1)
        counts = np.array([result.counts for result in mine])
        trust = (counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)
        replays.append(Replay(name, regret, rewards.mean(axis=1), trust))
    return Chapter(
        operation=OPERATION.name,
        question=QUESTION,
        work=(
            f"{len(requests)} jobs at once, each a replay of {len(outcomes.times):,} months "
            f"({outcomes.times[0]} to {outcomes.times[-1]}) by one policy with one seed."
        ),
        findings=findings(outcomes, replays),
        table=table(outcomes, replays),
        pictures=(
            Picture(
                name="regret",
                caption=(
                    "Left: hits missed so far, compared with the rule that is best in hindsight; "
                    "lines are medians over the seeds, bars at their right the range of where the "
                    "seeds end. Right: how often each policy trusted each rule."
                ),
                source=sources(data.sunspots),
                size=(10.0, 4.6),
                draw=partial(pictures.regret, outcomes=outcomes, replays=replays),
            ),
        ),
    )


def forecasts(times: NDArray[np.datetime64], values: NDArray[np.float64]) -> Outcomes:
    """Let every rule forecast every month from one solar cycle on, from the months before alone."""
    now = np.arange(CYCLE, values.size)
    past = np.concatenate([[0.0], np.cumsum(values)])
    line = np.lib.stride_tricks.sliding_window_view(values, 12)[now - 12]
    slope = (line @ (np.arange(12) - 5.5)) / 143.0  # 143: the sum of the squares of those distances
    rules = {
        "same as last month": values[now - 1],
        "smoothed, half the weight last month": _smoothed(values)[now - 1],
        "line through the last 12 months": line.mean(axis=1) + 6.5 * slope,
        "mean of the last 12 months": (past[now] - past[now - 12]) / 12,
        "same month one cycle (11 years) ago": values[now - CYCLE],
        "mean of all months so far": past[now] / now,
    }
    errors = np.abs(np.array(list(rules.values())).T - values[now, None])
    return Outcomes(tuple(rules), times[now], (errors <= TOLERANCE).astype(float))


def findings(outcomes: Outcomes, replays: list[Replay]) -> tuple[str, ...]:
    """Say who learned what."""
    shares = outcomes.paid.mean(axis=0)
    *learners, idle = replays
    first, *_, last = sorted(learners, key=lambda replay: -replay.hits.mean())
    range_of_rules = (
        f'The rule that is best in hindsight, "{outcomes.rules[outcomes.best]}", comes within '
        f"{TOLERANCE:.0f} spots in {shares.max():.1%} of the months; a rule drawn anew each month "
        f"does in {idle.hits.mean():.1%}."
    )
    learned = (
        f"{first.name} learned most: {first.hits.mean():.1%}, {_kept(first, idle):.0%} of what "
        f"there was to gain. {last.name} learned least: {last.hits.mean():.1%}."
    )
    return range_of_rules, learned


def _kept(replay: Replay, idle: Replay) -> float:
    return float(1 - replay.regret[:, -1].mean() / idle.regret[:, -1].mean())


def table(outcomes: Outcomes, replays: list[Replay]) -> Table:
    """Return one row for each policy."""
    rows = tuple(
        (
            replay.name,
            f"{replay.hits.size}",
            f"{replay.hits.mean():.1%}",
            f"{replay.regret[:, -1].mean():.0f}",
            _range(replay.regret[:, -1]),
            f"{replay.trust[outcomes.best]:.0%}",
        )
        for replay in replays
    )
    columns = ("policy", "replays", "hits", "mean regret", "range", "best rule")
    return Table(title="The policies", columns=columns, rows=rows)


def _range(values: NDArray[np.float64]) -> str:
    return f"{values.min():.0f} to {values.max():.0f}" if values.size > 1 else "-"


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth = values.copy()
    for month in range(1, values.size):
        smooth[month] = 0.5 * (smooth[month - 1] + values[month])
    return smooth
