"""Recipes: everything a person may choose that changes the bytes of an artifact."""

from __future__ import annotations

import json
from typing import Any

from blake3 import blake3
from pydantic import BaseModel, ConfigDict


class Recipe(BaseModel):
    """A flat, frozen, bounded set of choices; its canonical JSON is part of an artifact's identity.

    Paths, worker counts and devices never stand in a recipe: they are where a stage runs, not what it makes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def identity(self) -> dict[str, Any]:
        """The recipe as plain JSON values, every default written out."""
        return self.model_dump(mode="json")


def canonical_json(value: Any) -> bytes:
    """One byte string for one value: sorted keys, no white space, UTF-8, no NaN.

    Raises:
        ValueError: if a float is not finite.
        TypeError: if something is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(data: bytes) -> str:
    """blake3 as 64 hexadecimal digits."""
    return blake3(data).hexdigest()
