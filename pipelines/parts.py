"""Artifacts that are kept in parts, one for each source: what the whole says of them together."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.recipe import canonical_json, digest


def summed_counts(parts: Sequence[Artifact]) -> dict[str, int]:
    """Counts of the whole: the sums over its parts."""
    names = parts[0].counts if parts else {}
    return {name: sum(part.counts[name] for part in parts) for name in names}


def rows_of_parts(parts: Sequence[Artifact]) -> str:
    """Logical digest of the whole: names and logical digests of its parts."""
    return digest(canonical_json([[part.key.part, part.manifest.rows] for part in parts]))
