"""Learning rate by step."""

from __future__ import annotations

import math


def warmup_cosine(step: int, num_steps: int, peak: float, warmup_steps: int, min_ratio: float) -> float:
    """Straight up to the peak, then half a cosine down to ``peak * min_ratio`` (Loshchilov & Hutter 2017, eq. 5).

    Steps count from 1: step ``warmup_steps`` has the peak, step ``num_steps`` has the end. A warm-up that is longer
    than the run never reaches the peak.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
