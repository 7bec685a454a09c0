"""An app that submits jobs under idempotency keys and prints the ids that it was given.

`python -m tests.chaos.claimant URL NUMBER`
"""

import sys

from producers import Client, analytics


def main(url: str, number: int) -> None:
    """Submit a job under each key, in the same order as every other claimant."""
    with Client(url) as client:
        for count in range(number):
            key = f"key-{count}"
            request = analytics.basic_statistics.build([float(count), 1.0, 2.0])
            job = client.submit(analytics.basic_statistics, request, idempotency_key=key)
            print(key, job.id)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
