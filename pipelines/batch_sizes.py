"""Batch sizes of a run: small batches first, where loss falls fast and large ones are wasted.

``STEP=SIZE`` entries, ascending: up to this step batches have that size, behind the last of them the run's own.
(McCandlish et al. 2018, arXiv:1812.06162: the batch that is worth its tokens grows while the loss falls.)
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.provenance.plan import Segment


def segments(warmup: Sequence[str], batch_size: int, steps: int) -> list[Segment]:
    """By first step, as a plan has them.

    Raises:
        ValueError: if an entry is no ``STEP=SIZE``, or they do not ascend within the run.
    """
    found, step, slot = [], 1, 0
    for entry in warmup:
        last, _, size = entry.partition("=")
        if not (last.isdecimal() and size.isdecimal() and int(size) and step <= int(last) < steps):
            raise ValueError(
                f"batch_warmup {entry!r}: expected STEP=SIZE with a step from {step} to {steps - 1}, ascending, such as "
                "'200=8'."
            )
        found.append(Segment(first_step=step, first_slot=slot, batch_size=int(size)))
        slot += (int(last) + 1 - step) * int(size)
        step = int(last) + 1
    return [*found, Segment(first_step=step, first_slot=slot, batch_size=batch_size)]


def slots_before(step: int, sizes: Sequence[Segment]) -> int:
    """Sequences that the steps before this one read."""
    segment = [each for each in sizes if each.first_step <= step][-1]
    return segment.first_slot + (step - segment.first_step) * segment.batch_size
