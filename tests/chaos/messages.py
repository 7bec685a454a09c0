"""Bad messages: everything that a broken or hostile client may put into a queue."""

import contextlib
import time
import uuid
from typing import Final

from contract.dead_letters import DeadLetters
from contract.errors import GristmillError, InternalError, MessageError, ResultTimeout
from producers import Client, mcts
from tests.chaos.scenario import Scenario
from tests.chaos.sheet import Row
from tests.chaos.stand import Stand, wait_until
from tests.integration import test_bad_messages as catalogue

_SECONDS: Final = 15.0


class BadMessages(Scenario):
    """Every kind of the catalogue in tests/integration/test_bad_messages.py, again and again.

    Truncated, nested and foreign bodies, broken envelopes, unknown tasks and versions, and entries
    that are no message at all.
    """

    name = "messages"

    def run(self, short: bool) -> list[Row]:
        """Push each, and look for its named outcome."""
        rounds = 1 if short else 5
        with Stand(workers=1) as stand, Client(stand.deployment.url) as client:
            wrong: list[str] = []
            number = 0
            for _ in range(rounds):
                wrong += self._results(stand, client)
                number += len(catalogue.BAD_BODIES) + len(catalogue.BAD_ENVELOPES)
            silent = [text for _ in range(rounds) for text in self._letters(stand)]
            num_letters = rounds * len(catalogue.NO_MESSAGES)
            served = client.submit(
                mcts.ucb1_selection, mcts.ucb1_selection.build(**catalogue.GOOD)
            ).result(timeout=_SECONDS)
            with contextlib.suppress(TimeoutError):  # what is not gone by then is told
                wait_until(lambda: not stand.residue(), _SECONDS)
            lives = len(stand.lives("w1"))
            residue = sum(stand.residue().values())
        return [
            self.row(
                "a bad message ends as a failed result with a named error",
                "bad bodies and envelopes",
                number,
                f"{number - len(wrong)} of {number}{_some(wrong)}",
                not wrong,
            ),
            self.row(
                "an entry that is no message is kept as a dead letter, byte for byte",
                "entries that are no message",
                num_letters,
                f"{num_letters - len(silent)} of {num_letters}{_some(silent)}",
                not silent,
            ),
            self.row(
                "no bad message ends a worker, loops, or stays in the queue",
                "the whole catalogue",
                number + num_letters,
                f"workers lost {lives - 1}, left over {residue}, next job answered",
                lives == 1 and not residue and served.chosen.tolist() == [0],
            ),
        ]

    def _results(self, stand: Stand, client: Client) -> list[str]:
        """Return the names of the bad messages whose caller did not get the named error."""
        expected: dict[str, tuple[str, str, tuple[type[GristmillError], ...]]] = {}
        for name, (body, error) in catalogue.BAD_BODIES.items():
            job = str(uuid.uuid4())
            expected[name] = (job, catalogue.entry(job, body), (error,))
        for name, changes in catalogue.BAD_ENVELOPES.items():
            job = str(uuid.uuid4())
            text = catalogue.entry(job, catalogue.BODY, **changes)
            expected[name] = (job, text, (MessageError, InternalError))
        for _, text, _ in expected.values():
            stand.raw.lpush("mcts", text)
        wrong = []
        for name, (job, _, errors) in expected.items():
            try:
                client.job("mcts.ucb1_selection", job).result(timeout=_SECONDS)
                wrong.append(f"{name}: succeeded")
            except ResultTimeout:
                wrong.append(f"{name}: no result")
            except GristmillError as found:
                if not isinstance(found, errors):
                    wrong.append(f"{name}: {type(found).__name__}")
        return wrong

    def _letters(self, stand: Stand) -> list[str]:
        """Return the entries that did not become dead letters with their own bytes."""
        letters = DeadLetters(stand.raw, stand.deployment)
        known = {letter.id for letter in letters.list()}
        for text in catalogue.NO_MESSAGES:
            stand.raw.lpush("mcts", text)

        def found() -> list[bytes]:
            return [letter.raw for letter in letters.list() if letter.id not in known]

        limit = time.monotonic() + _SECONDS
        while len(found()) < len(catalogue.NO_MESSAGES) and time.monotonic() < limit:
            time.sleep(0.1)
        kept = found()
        return [repr(text[:40]) for text in catalogue.NO_MESSAGES if text not in kept]


def _some(wrong: list[str]) -> str:
    return f": {'; '.join(sorted(set(wrong))[:5])}" if wrong else ""
