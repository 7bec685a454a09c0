"""Choose among headlines by Thompson sampling: ask for a batch, show it, tell what it brought.

With GRISTMILL_URL set it enqueues to your workers; without, it brings a worker in this process.
"""

import os
from contextlib import nullcontext

import numpy as np

from gristmill.testing import in_process
from producers import optimization

#: How often readers click each headline; the bandit does not know.
CLICK_RATES = np.array([0.04, 0.05, 0.11, 0.06, 0.08])


def show_headlines(rounds: int = 40, readers: int = 100) -> None:
    """Give each reader of a round a headline, and learn from their clicks before the next round."""
    readers_clicks = np.random.default_rng(2024)
    counts, clicks, step = np.zeros(5, int), np.zeros(5), 0
    shown, clicked = None, None
    for _ in range(rounds):
        # One call tells what the last batch brought, and asks for the next.
        answer = optimization.multi_armed_bandit(
            counts,
            clicks,
            policy="thompson",
            arms=shown,
            rewards=clicked,
            num_selections=readers,
            step=step,
            seed=7,
        )
        counts, clicks, step = answer.counts, answer.reward_sums, answer.step
        shown = answer.chosen
        clicked = (readers_clicks.random(readers) < CLICK_RATES[shown]).astype(float)
    print("headline  shown  clicks  posterior mean")
    for arm in range(5):
        print(f"{arm:8}  {counts[arm]:5}  {clicks[arm]:6.0f}  {answer.scores[arm]:14.3f}")


def compare_policies(num_steps: int = 5000) -> None:
    """Replay the same readers under each policy, each in one call of many steps."""
    outcomes = (np.random.default_rng(1).random((num_steps, 5)) < CLICK_RATES).astype(float)
    jobs = {
        policy: optimization.multi_armed_bandit.submit(
            np.zeros(5, int), np.zeros(5), policy=policy, outcomes=outcomes, temperature=0.02
        )
        for policy in ("ucb1", "thompson", "epsilon_greedy", "softmax")
    }
    print(f"\nclicks of {num_steps} readers (the best headline alone: {outcomes[:, 2].sum():.0f})")
    for policy, job in jobs.items():
        answer = job.result()
        print(f"{policy:14}  {answer.rewards.sum():4.0f}  in {1e3 * answer.kernel_seconds:.2f} ms")


if __name__ == "__main__":
    with nullcontext() if "GRISTMILL_URL" in os.environ else in_process():
        show_headlines()
        compare_policies()
