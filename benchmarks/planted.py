"""Pairs of documents of known Jaccard, and the truth of the planted corpus: who was found, and who went rightly.

Read by ``benchmarks/dedup.py``; no benchmark of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

CHECKOUT = Path(__file__).resolve().parent.parent
BINS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
WORD = re.compile(r"\w+")
Named = list[tuple[str, str]]  # name and text
Pairs = list[tuple[str, str, float]]  # two names and their Jaccard


def grams(words: Sequence[str]) -> set[tuple[str, ...]]:
    return set(zip(*(words[start:] for start in range(5)), strict=False))


def planted_pairs(texts: list[str], per_bin: int) -> tuple[Named, Pairs]:
    """Documents and, by name, the pairs among them with their true Jaccard: a block of words is replaced."""
    dice, rows, pairs = random.Random(5), [], []
    found = (WORD.findall(text.lower()) for text in texts)
    bases = (words[at : at + 250] for words in found for at in range(0, len(words) - 99, 250))
    for wanted in BINS:
        for words in islice((w for w in bases if len(w) >= 100), per_bin):
            mine = grams(words)
            size = max(1, round(len(words) * (1 - wanted) / (1 + wanted)) - 4)
            start = dice.randrange(len(words) - size)
            fresh = [f"z{dice.getrandbits(40):x}" for _ in range(size)]
            other = grams(changed := [*words[:start], *fresh, *words[start + size :]])
            one, two = f"base {len(pairs)}", f"copy {len(pairs)}"
            rows += [(one, " ".join(words)), (two, " ".join(changed))]
            pairs.append((one, two, len(mine & other) / len(mine | other)))
    return rows, pairs


def recall(pairs: Pairs, gone: set[str]) -> dict[str, float]:
    """By bin: of the planted pairs the share of which one document went."""
    found: dict[float, list[bool]] = {wanted: [] for wanted in BINS}
    for one, two, alike in pairs:
        found[min(BINS, key=lambda wanted: abs(wanted - alike))].append(bool({one, two} & gone))
    return {str(wanted): round(float(np.mean(hits)), 3) for wanted, hits in found.items()}


def theory(pairs: Pairs, bands: int, rows: int) -> dict[str, float]:
    """1 - (1 - Jʳ)ᵇ, meant over the pairs of each bin."""
    found: dict[float, list[float]] = {wanted: [] for wanted in BINS}
    for *_, alike in pairs:
        found[min(BINS, key=lambda wanted: abs(wanted - alike))].append(1 - (1 - alike**rows) ** bands)
    return {str(wanted): round(float(np.mean(values)), 3) for wanted, values in found.items()}


def shared_planted() -> tuple[Named, dict[frozenset[str], float]] | None:
    """The planted corpus and every pair of it at Jaccard 0.5 or more; None where the shared data are not."""
    folder = Path(os.environ.get("STEMMA_SHARED_DATA", CHECKOUT.parent / "shared" / "data")) / "corpora" / "planted"
    if not folder.exists():
        return None
    import zstandard

    with zstandard.open(folder / "documents.jsonl.zst", "rt", encoding="utf-8") as lines:
        rows = [(row["id"], row["text"]) for row in map(json.loads, lines)]
    with gzip.open(folder / "truth" / "all_pairs_jaccard_ge_0.5.jsonl.gz", "rt") as lines:
        return rows, {frozenset((row["a"], row["b"])): row["jaccard5"] for row in map(json.loads, lines)}


def judged(names: set[str], gone: set[str], truth: dict[frozenset[str], float]) -> dict[str, float]:
    """Recall of the pairs at 0.8 or more, and the share of what went that is as like as that to something that stays."""
    near = [pair for pair, alike in truth.items() if alike >= 0.8 and len(pair) == 2]
    stays = names - gone
    right = {name for pair in near for name in pair & gone if pair & stays}
    return {
        "recall_planted_08": round(1 - sum(not pair & gone for pair in near) / len(near), 4),
        "precision": round(len(right) / max(1, len(gone)), 4),
    }
