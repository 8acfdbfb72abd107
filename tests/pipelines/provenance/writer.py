"""A process that builds until somebody kills it: ``python writer.py STORE BARRIER ROUND``."""

from __future__ import annotations

import sys
from pathlib import Path

from workshop import Workshop

from pipelines.provenance.store import Store


def build_everything(root: str, turn: str, rounds: int = 6) -> None:
    workshop = Workshop(Store(root))
    first = workshop.raw("a/1").artifact
    chapters = {"a/1": first}
    for number in range(rounds):  # every round revises, so that refs move
        chapters["b/1"] = workshop.raw("b/1", f"four five {turn} {number}").artifact
        workshop.loud(chapters["b/1"])
        workshop.book(chapters)


if __name__ == "__main__":
    Path(sys.argv[2]).touch()  # imports are done; what follows may be killed at any point
    build_everything(sys.argv[1], sys.argv[3])
