"""What stages cut out of a document: the text before and after, made again from the spans that the stage recorded.

The base install suffices; no Dagster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from assets.examples import TEXTS, texts_of
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import upstream_first
from pipelines.provenance.tables import read_batches

CUTS, SPANS = "cuts.arrow", "spans.arrow"


@dataclass(frozen=True)
class CutText:
    """A text that a stage cut."""

    stage: str
    part: str
    words: int  # that were cut
    words_left: int
    spans: list[dict[str, Any]]  # rule, start and length in characters, and the text that went
    before: str
    after: str


def cut_texts(tree: list[Artifact], doc_id: bytes) -> list[CutText]:
    """Every cut of a document by the stages of some family trees, upstream first.

    Raises:
        ValueError: if a text is not the one that was cut, or not what was left of it.
    """
    cutting = [artifact for artifact in upstream_first(*tree) if CUTS in artifact.names()]
    return [_cut(artifact, row) for artifact in cutting for row in _rows(artifact, CUTS, doc_id)]


def _cut(artifact: Artifact, row: dict[str, Any]) -> CutText:
    """The first input that holds the text has it as it was."""
    doc_id = row["doc_id"]
    before = texts_of([i for i in artifact.inputs() if TEXTS in i.names()], [doc_id])[doc_id]
    spans, kept, at = [], [], 0
    for span in _rows(artifact, SPANS, doc_id):
        stop = span["start"] + span["length"]
        spans.append({**{n: span[n] for n in ("rule", "start", "length")}, "text": before[span["start"] : stop]})
        kept.append(before[at : span["start"]])
        at = stop
    after = "".join([*kept, before[at:]])
    for text, name in ((before, "sha256_in"), (after, "sha256_out")):
        if hashlib.sha256(text.encode()).digest() != row[name]:
            raise ValueError(
                f"{artifact.key}: {doc_id.hex()} is not the text that was cut ({name} of {CUTS} differs). "
                "`stemma audit verify` tells what changed."
            )
    return CutText(artifact.key.asset, artifact.key.part, row["words"], row["words_left"], spans, before, after)


def _rows(artifact: Artifact, name: str, doc_id: bytes) -> list[dict[str, Any]]:
    return [
        row
        for batch in read_batches(artifact.local(name))
        for row in batch.filter(pc.equal(batch["doc_id"], doc_id)).to_pylist()
    ]
