"""Texts on which an imported tokenizer and the library that it comes from are compared."""

from __future__ import annotations

import random

from test_tokenizing import FRAGMENTS, SAID

ODD = ["\u2581", "</s>", "<s>", "<0x0A>", "<unk>", "[INST]", "\ufb01", "\u2460", "\ufeff", "\ufffd", "\u3042\u3099"]


def odd_texts(count: int, seed: int = 1) -> list[str]:
    """Prose, code and some scripts; then pieces of rules in random order; then characters of all planes."""
    chance = random.Random(seed)
    pieces = [*FRAGMENTS, *ODD]
    mixed = ["".join(chance.choices(pieces, k=chance.randrange(12))) for _ in range(count)]
    ranges = [(0x20, 0x250), (0x300, 0x3000), (0x10, 0xD800), (0xE000, 0x32000)]
    codes = [[chance.randrange(*chance.choice(ranges)) for _ in range(chance.randrange(12))] for _ in range(count)]
    return [*SAID, *mixed, *("".join(map(chr, some)) for some in codes)]
